-- SPDX-License-Identifier: GPL-3.0-or-later
-- Roll-outs: a new version reaches the VMs that follow a tag in waves, and
-- the old one can be put back at once. A roll-out is one row; which VMs it
-- moves is a function of the row and the VM, so that halting it, widening it
-- and taking it back are each one changed row, however large the farm is.

ALTER TABLE vms ADD COLUMN vm_group text
	CHECK (vm_group ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$');
CREATE INDEX vms_osf_tag ON vms (osf_id, tag);

-- What the tag named before it moved the last time: where rollback goes.
ALTER TABLE image_tags ADD COLUMN previous_id integer
	REFERENCES images ON DELETE SET NULL;

CREATE TABLE rollouts (
	id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	osf_id       integer NOT NULL REFERENCES osfs ON DELETE CASCADE,
	tag          text NOT NULL,
	old_image_id integer NOT NULL REFERENCES images ON DELETE CASCADE,
	new_image_id integer NOT NULL REFERENCES images ON DELETE CASCADE,
	state        text NOT NULL DEFAULT 'watching'
	             CHECK (state IN ('watching', 'halted', 'finished', 'rolled-back')),
	state_at     timestamptz NOT NULL DEFAULT now(),
	watch_ms     bigint NOT NULL CHECK (watch_ms BETWEEN 0 AND 2592000000),
	percent      integer NOT NULL DEFAULT 0 CHECK (percent BETWEEN 0 AND 100),
	below        bigint NOT NULL DEFAULT 0,  -- places below it are in
	vm_group     text,                       -- these are in, too,
	host_id      integer REFERENCES hosts ON DELETE SET NULL, -- and these
	wave         integer NOT NULL DEFAULT 0, -- 0: not begun
	wave_at      timestamptz NOT NULL DEFAULT now(),
	wave_vms     integer NOT NULL DEFAULT 0, -- that it added
	wave_event   bigint NOT NULL DEFAULT 0,  -- the newest as the wave began
	since_event  bigint NOT NULL DEFAULT 0,  -- the new version's events count after it
	started_by   text,
	step         text,                       -- what it waits for
	reason       text,                       -- why it is not watching any more
	created_at   timestamptz NOT NULL DEFAULT now(),
	CHECK (old_image_id <> new_image_id)
);
CREATE UNIQUE INDEX rollouts_one ON rollouts (osf_id, tag)
	WHERE state IN ('watching', 'halted');
CREATE INDEX rollouts_new ON rollouts (new_image_id)
	WHERE state IN ('watching', 'halted');

-- A VM's place in a roll-out, from 0 to 2^31 - 1: evenly spread, the same
-- for ever, and another in each roll-out, so that it is not always the same
-- people who try what is new. The hash is PostgreSQL's own for partitions by
-- hash, which keeps its values from release to release.
CREATE FUNCTION rollout_place(rollout_id integer, vm_id integer)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashint4extended(vm_id, rollout_id::bigint) & 2147483647;

-- Whether a VM that follows its tag is in a roll-out.
CREATE FUNCTION rollout_has(r rollouts, v vms)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN r.wave > 0 AND (rollout_place(r.id, v.id) < r.below OR
	coalesce(v.vm_group = r.vm_group, false) OR
	coalesce(v.host_id = r.host_id, false));

-- The VMs that are in a roll-out. One that is watching gives them its new
-- version at their next start; a halted one gives it to nobody.
CREATE VIEW rollout_members AS
	SELECT r.id AS rollout_id, r.state, r.new_image_id, v.id AS vm_id
	FROM rollouts r JOIN vms v ON v.osf_id = r.osf_id AND v.tag = r.tag
	WHERE r.state IN ('watching', 'halted') AND rollout_has(r, v);

-- The image that a VM gets when it starts now: what a roll-out has for it,
-- else what its tag names, else the version of that name.
CREATE FUNCTION vm_image(id integer) RETURNS integer LANGUAGE sql STABLE
RETURN (SELECT coalesce(
	(SELECT m.new_image_id FROM rollout_members m
	 WHERE m.vm_id = v.id AND m.state = 'watching'),
	(SELECT g.image_id FROM image_tags g
	 WHERE g.osf_id = v.osf_id AND g.tag = v.tag),
	(SELECT i.id FROM images i
	 WHERE i.osf_id = v.osf_id AND i.version = v.tag))
	FROM vms v WHERE v.id = vm_image.id);

-- What is known of an image's runs: the newest 1,000 events of starts, ends
-- and sessions after the one given, at most two weeks old. Restarts at a hard
-- expiry come all at once; their times speak of that, and are left out.
CREATE FUNCTION image_figures(image integer, after bigint)
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
			NOT e.herded), '{}'),
		coalesce(array_agg(e.duration_ms) FILTER (
			WHERE e.name = 'session.connected' AND e.duration_ms IS NOT NULL), '{}')
	FROM (SELECT v.name, v.duration_ms, v.name = 'vm.running' AND (
			SELECT p.name = 'vm.expired' FROM events p
			WHERE p.vm_id = v.vm_id AND p.id < v.id AND
			      p.name IN ('vm.expired', 'vm.start-requested')
			ORDER BY p.id DESC LIMIT 1) IS TRUE AS herded
		FROM events v
		WHERE v.image_id = image AND v.id > after AND
		      v.at > now() - interval '14 days' AND
		      v.name IN ('vm.running', 'vm.start-failed', 'vm.died',
		                 'session.connected', 'session.failed')
		ORDER BY v.id DESC LIMIT 1000) e;
END;

-- qvd_rollouts "<rollout_id>": its row, or something that it watches
CREATE TRIGGER rollouts_notify AFTER INSERT OR UPDATE OR DELETE ON rollouts
	FOR EACH ROW EXECUTE FUNCTION notify_column('qvd_rollouts', 'id');

CREATE FUNCTION notify_rollout_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_notify('qvd_rollouts', r.id::text) FROM rollouts r
	WHERE r.new_image_id = NEW.image_id AND r.state = 'watching';
	RETURN NULL;
END $$;
CREATE TRIGGER events_rollout AFTER INSERT ON events FOR EACH ROW
	WHEN (NEW.image_id IS NOT NULL AND NEW.name IN ('vm.running',
	      'vm.start-failed', 'vm.died', 'session.connected', 'session.failed'))
	EXECUTE FUNCTION notify_rollout_event();

-- Whoever moves a tag, the old image is remembered, and a roll-out of the tag
-- is over: finished if the tag went where it leads, else taken back.
CREATE FUNCTION image_tag_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.previous_id := OLD.image_id;
	RETURN NEW;
END $$;
CREATE TRIGGER image_tags_moves BEFORE UPDATE ON image_tags
	FOR EACH ROW WHEN (OLD.image_id <> NEW.image_id)
	EXECUTE FUNCTION image_tag_moves();

CREATE FUNCTION image_tag_moved() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	r rollouts;
	target integer := CASE WHEN TG_OP = 'UPDATE' THEN NEW.image_id END;
BEGIN
	UPDATE rollouts SET state_at = now(), step = NULL,
		state = CASE WHEN new_image_id = target THEN 'finished'
			ELSE 'rolled-back' END,
		reason = CASE WHEN new_image_id = target THEN 'the tag names the new version'
			WHEN target IS NULL THEN 'the tag was removed'
			ELSE 'the tag was moved to another version' END
	WHERE osf_id = OLD.osf_id AND tag = OLD.tag AND
	      state IN ('watching', 'halted') RETURNING * INTO r;
	IF r.id IS NOT NULL THEN
		INSERT INTO events (name, image_id, text) VALUES (
			CASE r.state WHEN 'finished' THEN 'image.rollout-finished'
				ELSE 'image.rolled-back' END, r.new_image_id,
			'roll-out ' || r.id || ' to tag ' || r.tag || ' is ' ||
			CASE r.state WHEN 'finished' THEN 'finished' ELSE 'over' END ||
			': ' || r.reason);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER image_tags_moved AFTER UPDATE ON image_tags
	FOR EACH ROW WHEN (OLD.image_id <> NEW.image_id)
	EXECUTE FUNCTION image_tag_moved();
CREATE TRIGGER image_tags_gone AFTER DELETE ON image_tags
	FOR EACH ROW EXECUTE FUNCTION image_tag_moved();

GRANT SELECT ON rollouts, rollout_members TO qvd_l7r, qvd_hkd, qvd_api;
GRANT INSERT, UPDATE, DELETE ON rollouts TO qvd_api;
