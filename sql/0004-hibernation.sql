-- SPDX-License-Identifier: GPL-3.0-or-later
-- Desktops that nobody uses are put to sleep: the policy is the OSF's, the
-- state is the run's.

ALTER TABLE osfs ADD COLUMN idle_after_s integer NOT NULL DEFAULT 0
	CHECK (idle_after_s BETWEEN 0 AND 31536000); -- 0 = never
ALTER TABLE vm_runtimes ADD COLUMN hibernated_at timestamptz; -- NULL: awake

-- A new policy is for the desktops that run, too: their nodes read them again.
CREATE FUNCTION notify_osf_idle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_notify('qvd_host_' || v.host_id, 'vm ' || v.id)
	FROM vms v WHERE v.osf_id = NEW.id AND v.host_id IS NOT NULL;
	RETURN NULL;
END $$;
CREATE TRIGGER osfs_notify_idle AFTER UPDATE ON osfs
	FOR EACH ROW WHEN (OLD.idle_after_s <> NEW.idle_after_s)
	EXECUTE FUNCTION notify_osf_idle();
