-- SPDX-License-Identifier: GPL-3.0-or-later
-- Machines suspended to disk: one of them is wanted suspended, is being
-- suspended, is suspended. What it started from stays in use (image_users).

ALTER TABLE vms DROP CONSTRAINT vms_desired_check,
	ADD CONSTRAINT vms_desired_check CHECK (desired IN ('stopped', 'running', 'suspended'));
ALTER TABLE vm_runtimes DROP CONSTRAINT vm_runtimes_state_check,
	ADD CONSTRAINT vm_runtimes_state_check CHECK (state IN ('stopped', 'starting',
		'running', 'stopping', 'zombie', 'suspending', 'suspended'));

-- A suspended machine goes on with what was on it, its expiry included.
CREATE OR REPLACE FUNCTION vm_new_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM vm_runtimes WHERE vm_id = NEW.id
	    AND state IN ('suspending', 'suspended')) THEN
		NEW.expire_soft_at := NULL;
		NEW.expire_hard_at := NULL;
		NEW.expire_rollout_id := NULL;
	END IF;
	RETURN NEW;
END $$;
