-- SPDX-License-Identifier: GPL-3.0-or-later
-- Where a rollback goes: to what a tag named before, and from there to what it
-- named before that, never to what was taken back. And what a roll-out has
-- told running desktops (that they expire) ends with it.

-- Each version that the tag has named is here at most once: not while the tag
-- names it, and not after it was taken back. So rolling back goes from newer to
-- older and ends.
CREATE TABLE image_tag_past (
	id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	osf_id   integer NOT NULL,
	tag      text NOT NULL,
	image_id integer NOT NULL REFERENCES images ON DELETE CASCADE,
	left_at  timestamptz NOT NULL DEFAULT now(),
	UNIQUE (osf_id, tag, image_id),
	FOREIGN KEY (osf_id, tag) REFERENCES image_tags ON DELETE CASCADE
);
CREATE INDEX image_tag_past_image ON image_tag_past (image_id);

INSERT INTO image_tag_past (osf_id, tag, image_id)
	SELECT osf_id, tag, previous_id FROM image_tags
	WHERE previous_id IS NOT NULL AND tag <> 'head';

-- Where a rollback of each tag goes: the newest that can still be used.
CREATE VIEW image_tag_previous AS
	SELECT DISTINCT ON (p.osf_id, p.tag) p.osf_id, p.tag, p.id AS past_id, p.image_id
	FROM image_tag_past p JOIN images i ON i.id = p.image_id
	WHERE i.state = 'published' AND NOT i.blocked
	ORDER BY p.osf_id, p.tag, p.id DESC;

-- `head` follows what is published by itself; it has no way back.
DROP TRIGGER image_tags_moves ON image_tags;
DROP FUNCTION image_tag_moves();
CREATE FUNCTION image_tag_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM image_tag_past
	WHERE osf_id = NEW.osf_id AND tag = NEW.tag AND image_id IN (OLD.image_id, NEW.image_id);
	INSERT INTO image_tag_past (osf_id, tag, image_id)
	VALUES (OLD.osf_id, OLD.tag, OLD.image_id);
	RETURN NULL;
END $$;
CREATE TRIGGER image_tags_moves AFTER UPDATE ON image_tags
	FOR EACH ROW WHEN (OLD.image_id <> NEW.image_id AND NEW.tag <> 'head')
	EXECUTE FUNCTION image_tag_moves();

-- Puts the tag back. What it leaves is bad, and what was passed over is of no
-- use: neither comes again. Gives the image, NULL if there is none.
CREATE FUNCTION image_tag_back(osf integer, name text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
	p image_tag_previous;
BEGIN
	PERFORM FROM image_tags t WHERE t.osf_id = osf AND t.tag = name FOR UPDATE;
	SELECT * INTO p FROM image_tag_previous v WHERE v.osf_id = osf AND v.tag = name;
	IF p.image_id IS NULL THEN
		RETURN NULL;
	END IF;
	UPDATE image_tags t SET image_id = p.image_id, moved_at = now()
	WHERE t.osf_id = osf AND t.tag = name;
	DELETE FROM image_tag_past h WHERE h.osf_id = osf AND h.tag = name AND h.id >= p.past_id;
	RETURN p.image_id;
END $$;

-- What is more than its OSF keeps: where the next rollback goes is none of it.
CREATE OR REPLACE VIEW image_surplus AS
	SELECT s.id, s.osf_id, s.version, s.size_bytes FROM (
		SELECT i.*, o.keep_images,
		    row_number() OVER (PARTITION BY i.osf_id ORDER BY i.id DESC) AS place
		FROM images i JOIN osfs o ON o.id = i.osf_id
		WHERE o.keep_images IS NOT NULL AND i.state IN ('published', 'retired')
		AND NOT EXISTS (SELECT FROM image_tags g WHERE g.image_id = i.id)
		AND NOT EXISTS (SELECT FROM image_tag_previous p WHERE p.image_id = i.id)
		AND NOT EXISTS (SELECT FROM image_users u WHERE u.image_id = i.id)
		AND NOT EXISTS (SELECT FROM vm_runtimes r WHERE r.image_id = i.id
		    AND o.root = 'persistent')
	) s WHERE s.place > s.keep_images;
ALTER TABLE image_tags DROP COLUMN previous_id;

-- Expiries that a roll-out has set end when it halts or is taken back, and for
-- what runs the tag's version already (again). Those that an administrator has
-- set stay.
ALTER TABLE vms ADD COLUMN expire_rollout_id integer REFERENCES rollouts ON DELETE SET NULL;
CREATE INDEX vms_expire_rollout ON vms (expire_rollout_id) WHERE expire_rollout_id IS NOT NULL;

CREATE OR REPLACE FUNCTION vm_new_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.expire_soft_at := NULL;
	NEW.expire_hard_at := NULL;
	NEW.expire_rollout_id := NULL;
	RETURN NEW;
END $$;

CREATE FUNCTION expiry_withdraw(vm integer, why text) RETURNS void LANGUAGE sql
BEGIN ATOMIC
	WITH u AS (UPDATE vms SET expire_soft_at = NULL, expire_hard_at = NULL,
		expire_rollout_id = NULL WHERE id = vm AND expire_rollout_id IS NOT NULL
		RETURNING id, user_id, host_id)
	INSERT INTO events (name, vm_id, user_id, host_id, text)
	SELECT 'vm.expiry-set', id, user_id, host_id, 'it does not expire any more: ' || why FROM u;
END;

CREATE FUNCTION rollout_ends() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM expiry_withdraw(v.id, 'roll-out ' || NEW.id || ' is ' ||
		CASE NEW.state WHEN 'halted' THEN 'halted' ELSE 'taken back' END)
	FROM vms v WHERE v.expire_rollout_id = NEW.id;
	RETURN NULL;
END $$;
CREATE TRIGGER rollouts_end AFTER UPDATE ON rollouts FOR EACH ROW
	WHEN (OLD.state <> NEW.state AND NEW.state IN ('halted', 'rolled-back'))
	EXECUTE FUNCTION rollout_ends();

CREATE FUNCTION image_tag_expiries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM expiry_withdraw(v.id, 'the tag ' || NEW.tag || ' names the version that it runs')
	FROM vms v JOIN vm_runtimes r ON r.vm_id = v.id
	WHERE v.expire_rollout_id IS NOT NULL AND v.osf_id = NEW.osf_id AND v.tag = NEW.tag
	AND r.image_id = NEW.image_id;
	RETURN NULL;
END $$;
CREATE TRIGGER image_tags_expiries AFTER UPDATE ON image_tags
	FOR EACH ROW WHEN (OLD.image_id <> NEW.image_id)
	EXECUTE FUNCTION image_tag_expiries();

GRANT SELECT, INSERT, DELETE ON image_tag_past TO qvd_api;
GRANT SELECT ON image_tag_previous TO qvd_api;
