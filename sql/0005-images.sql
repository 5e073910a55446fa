-- SPDX-License-Identifier: GPL-3.0-or-later
-- Images as version control: what an import has found out, images that are
-- made of a desktop's changes or wait to be published, who uses an image, and
-- how many old versions an OSF keeps.

ALTER TABLE images
	DROP CONSTRAINT images_source_check,
	DROP CONSTRAINT images_state_check,
	ADD CONSTRAINT images_state_check CHECK (state IN ('new', 'importing', 'published',
	    'retired', 'failed', 'ready')),
	ADD COLUMN content     text,    -- checksum of its files alone
	ADD COLUMN files       bigint,
	ADD COLUMN hypervisors text,    -- that can run it: "lxc", "lxc kvm"
	ADD COLUMN hold        boolean NOT NULL DEFAULT false, -- not published by its import
	ADD COLUMN vm_id       integer REFERENCES vms ON DELETE SET NULL; -- whose changes it has
ALTER TABLE osfs
	ADD COLUMN keep_images integer CHECK (keep_images >= 0); -- untagged ones; NULL: all

GRANT UPDATE (content, files, hypervisors) ON images TO qvd_hkd;

-- qvd_images_gone "<image_id>": its files may be removed.
CREATE TRIGGER images_gone AFTER DELETE ON images
	FOR EACH ROW EXECUTE FUNCTION notify_column('qvd_images_gone', 'id');

-- Why an image can't go. A VM's start reads its image before its row says so.
CREATE VIEW image_users AS
	SELECT r.image_id, 'runs' AS kind,
	    'VM ' || v.id || ' (' || u.login || '/' || v.name || ') runs it' AS what
	FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id JOIN users u ON u.id = v.user_id
	WHERE r.state <> 'stopped' AND r.image_id IS NOT NULL
	UNION ALL
	SELECT i.id, 'starts', 'VM ' || v.id || ' (' || u.login || '/' || v.name || ') is starting'
	FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id JOIN users u ON u.id = v.user_id
	JOIN images i ON i.osf_id = v.osf_id
	WHERE r.state = 'starting' AND r.image_id IS NULL
	UNION ALL
	SELECT g.image_id, 'follows',
	    'VM ' || v.id || ' (' || u.login || '/' || v.name || ') follows its tag ' || v.tag
	FROM image_tags g JOIN vms v ON v.osf_id = g.osf_id AND v.tag = g.tag
	JOIN users u ON u.id = v.user_id
	UNION ALL
	SELECT i.id, 'follows',
	    'VM ' || v.id || ' (' || u.login || '/' || v.name || ') follows its version'
	FROM images i JOIN vms v ON v.osf_id = i.osf_id AND v.tag = i.version
	JOIN users u ON u.id = v.user_id
	UNION ALL
	SELECT i.id, 'rollout', 'roll-out ' || r.id || ' to the tag ' || r.tag
	FROM rollouts r JOIN images i ON i.id IN (r.old_image_id, r.new_image_id)
	WHERE r.state IN ('watching', 'halted')
	UNION ALL
	SELECT id, 'import', 'it is being imported' FROM images WHERE state IN ('new', 'importing');

-- What is more than its OSF keeps: untagged, unused, no tag was on it before it
-- moved (rollback goes there), and no persistent VM has its changes on it. What
-- waits to be published (ready) has its tags still to come.
CREATE VIEW image_surplus AS
	SELECT s.id, s.osf_id, s.version, s.size_bytes FROM (
		SELECT i.*, o.keep_images,
		    row_number() OVER (PARTITION BY i.osf_id ORDER BY i.id DESC) AS place
		FROM images i JOIN osfs o ON o.id = i.osf_id
		WHERE o.keep_images IS NOT NULL AND i.state IN ('published', 'retired')
		AND NOT EXISTS (SELECT FROM image_tags g
		    WHERE g.image_id = i.id OR (g.previous_id = i.id AND g.tag <> 'head'))
		AND NOT EXISTS (SELECT FROM image_users u WHERE u.image_id = i.id)
		AND NOT EXISTS (SELECT FROM vm_runtimes r WHERE r.image_id = i.id
		    AND o.root = 'persistent')
	) s WHERE s.place > s.keep_images;

-- Removes it. The row is locked before it is looked at again, so that a tag
-- that is being moved there is seen, or fails.
CREATE FUNCTION retain_images() RETURNS SETOF image_surplus LANGUAGE plpgsql AS $$
DECLARE
	s image_surplus;
BEGIN
	FOR s IN SELECT * FROM image_surplus ORDER BY id LOOP
		PERFORM FROM images WHERE id = s.id FOR UPDATE;
		CONTINUE WHEN NOT EXISTS (SELECT FROM image_surplus x WHERE x.id = s.id);
		UPDATE images SET parent_id = (SELECT parent_id FROM images WHERE id = s.id)
		WHERE parent_id = s.id;
		DELETE FROM properties WHERE kind = 'image' AND object_id = s.id;
		DELETE FROM images WHERE id = s.id;
		INSERT INTO events (name, image_id, text) VALUES ('image.removed', s.id,
		    'version ' || s.version || ' was removed: its OSF keeps no more untagged ones');
		INSERT INTO audit (actor, action, object)
		VALUES ('retention', 'images.del', 'image ' || s.id);
		RETURN NEXT s;
	END LOOP;
END $$;

GRANT SELECT ON image_users, image_surplus TO qvd_api, qvd_hkd, qvd_l7r;
