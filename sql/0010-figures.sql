-- SPDX-License-Identifier: GPL-3.0-or-later
-- Versions are compared by starts that nothing else made slow; progress wakes
-- only who waits for it; the router reads no more than it needs.

-- The node was busy with other starts, or short of something, while this one
-- went on: how long it took says nothing of the version.
ALTER TABLE events ADD COLUMN crowded boolean NOT NULL DEFAULT false;

-- What is known of an image's runs: the newest 1,000 events of starts, ends
-- and sessions after the one given, at most two weeks old. Times are those of
-- starts that went on alone, and of sessions that waited for no other start:
-- in a storm of starts of one version it would only seem slow.
CREATE OR REPLACE FUNCTION image_figures(image integer, after bigint)
RETURNS TABLE (starts bigint, start_failures bigint, crashes bigint,
	sessions bigint, session_failures bigint, start_ms bigint[],
	desktop_ms bigint[])
LANGUAGE sql STABLE BEGIN ATOMIC
	SELECT count(*) FILTER (WHERE e.name IN ('vm.running', 'vm.start-failed')),
		count(*) FILTER (WHERE e.name = 'vm.start-failed'),
		count(*) FILTER (WHERE e.name = 'vm.died'),
		count(*) FILTER (WHERE e.name IN ('session.connected', 'session.failed')),
		count(*) FILTER (WHERE e.name = 'session.failed'),
		coalesce(array_agg(e.duration_ms) FILTER (
			WHERE e.name = 'vm.running' AND e.duration_ms IS NOT NULL AND
			NOT e.crowded), '{}'),
		coalesce(array_agg(e.duration_ms) FILTER (
			WHERE e.name = 'session.connected' AND e.duration_ms IS NOT NULL AND
			NOT e.crowded), '{}')
	FROM (SELECT v.name, v.duration_ms, v.crowded OR v.name = 'session.connected' AND
			EXISTS (SELECT FROM events p WHERE p.vm_id = v.vm_id AND
			p.name = 'vm.running' AND p.crowded AND p.id < v.id AND
			p.at >= v.at - v.duration_ms * interval '1 ms') AS crowded
		FROM events v
		WHERE v.image_id = image AND v.id > after AND
		      v.at > now() - interval '14 days' AND
		      v.name IN ('vm.running', 'vm.start-failed', 'vm.died',
		                 'session.connected', 'session.failed')
		ORDER BY v.id DESC LIMIT 1000) e;
END;

-- qvd_images "<image_id>": anything but its progress, for which there is
-- qvd_image_progress. Each of an import's many percents woke all nodes and
-- made them look for new images.
DROP TRIGGER images_notify ON images;
CREATE TRIGGER images_notify AFTER INSERT OR DELETE ON images
	FOR EACH ROW EXECUTE FUNCTION notify_column('qvd_images', 'id');
CREATE TRIGGER images_notify_update AFTER UPDATE ON images FOR EACH ROW
	WHEN (OLD.state <> NEW.state OR OLD.progress IS NOT DISTINCT FROM NEW.progress)
	EXECUTE FUNCTION notify_column('qvd_images', 'id');
CREATE TRIGGER images_notify_progress AFTER UPDATE ON images FOR EACH ROW
	WHEN (OLD.state = NEW.state AND OLD.progress IS DISTINCT FROM NEW.progress)
	EXECUTE FUNCTION notify_column('qvd_image_progress', 'id');

-- Of images the router needs to know which one a VM gets (vm_image()).
REVOKE SELECT ON image_nodes, image_users, image_surplus, rollouts, images, image_tags,
	tokens FROM qvd_l7r;
GRANT SELECT (id, osf_id, version) ON images TO qvd_l7r;
GRANT SELECT (osf_id, tag, image_id) ON image_tags TO qvd_l7r;
REVOKE UPDATE ON tokens, sessions FROM qvd_l7r;
GRANT SELECT (id, hash, user_id, vm_id, multi_use, used_at, expires_at), UPDATE (used_at)
	ON tokens TO qvd_l7r;
GRANT UPDATE (generation, state, state_at, host_id, user_id, client_address, client, key_hash)
	ON sessions TO qvd_l7r;
