-- SPDX-License-Identifier: GPL-3.0-or-later
-- Expiry: a run that is to give way to a new one. From the soft time on its
-- user is told; at the hard time it is restarted. Any new run ends both.

ALTER TABLE vms ADD COLUMN expire_soft_at timestamptz,
	ADD COLUMN expire_hard_at timestamptz;
CREATE INDEX vms_expiry ON vms (expire_hard_at) WHERE expire_hard_at IS NOT NULL;

-- What a roll-out gives the VMs that run its old version when they join.
ALTER TABLE rollouts ADD COLUMN soft_ms bigint CHECK (soft_ms BETWEEN 0 AND 2592000000),
	ADD COLUMN hard_ms bigint CHECK (hard_ms BETWEEN 0 AND 2592000000);

CREATE FUNCTION vm_new_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.expire_soft_at := NULL;
	NEW.expire_hard_at := NULL;
	RETURN NEW;
END $$;
CREATE TRIGGER vms_new_run BEFORE UPDATE ON vms
	FOR EACH ROW WHEN (NEW.epoch > OLD.epoch)
	EXECUTE FUNCTION vm_new_run();

-- qvd_expiry "<vm_id>": a time to look at has come or gone
CREATE TRIGGER vms_expiry_notify AFTER UPDATE ON vms FOR EACH ROW
	WHEN (NEW.expire_hard_at IS NOT NULL AND
	      NEW.expire_hard_at IS DISTINCT FROM OLD.expire_hard_at)
	EXECUTE FUNCTION notify_column('qvd_expiry', 'id');
