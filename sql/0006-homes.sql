-- SPDX-License-Identifier: GPL-3.0-or-later
-- Homes: their sizes, what their nodes know of them, and what is to be done
-- with them.

ALTER TABLE vms ADD COLUMN home_mb integer CHECK (home_mb > 0); -- NULL: as its OSF says

-- A home as its node last saw it.
CREATE TABLE homes (
	vm_id     integer PRIMARY KEY REFERENCES vms ON DELETE CASCADE,
	host_id   integer NOT NULL REFERENCES hosts ON DELETE CASCADE, -- that has it
	store     text NOT NULL CHECK (store IN ('auto', 'image', 'btrfs', 'project', 'directory')),
	size_mb   bigint,                -- NULL: no limit
	used_mb   bigint,                -- NULL: nobody counts
	snapshots jsonb NOT NULL DEFAULT '[]', -- [{"name", "at"}]
	seen_at   timestamptz NOT NULL DEFAULT now()
);

-- What an administrator wants done with a home, by the node that has it. A
-- job that has ended is kept for a day.
CREATE TABLE home_jobs (
	id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	vm_id      integer NOT NULL REFERENCES vms ON DELETE CASCADE,
	host_id    integer NOT NULL REFERENCES hosts ON DELETE CASCADE,
	action     text NOT NULL
	           CHECK (action IN ('look', 'snapshot', 'restore', 'forget', 'grow', 'convert')),
	name       text,                 -- of the snapshot
	state      text NOT NULL DEFAULT 'new'
	           CHECK (state IN ('new', 'running', 'done', 'failed')),
	state_at   timestamptz NOT NULL DEFAULT now(),
	error_id   text,
	error      text,
	error_ref  text
);
CREATE INDEX home_jobs_vm ON home_jobs (vm_id, id);
CREATE INDEX home_jobs_host ON home_jobs (host_id) WHERE state IN ('new', 'running');

CREATE FUNCTION notify_home_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_notify('qvd_host_' || NEW.host_id, 'home ' || NEW.vm_id);
	RETURN NULL;
END $$;
CREATE TRIGGER home_jobs_notify AFTER INSERT ON home_jobs
	FOR EACH ROW EXECUTE FUNCTION notify_home_job();
CREATE TRIGGER home_jobs_notify_state AFTER UPDATE ON home_jobs
	FOR EACH ROW EXECUTE FUNCTION notify_column('qvd_homes', 'vm_id');

GRANT SELECT ON homes, home_jobs TO qvd_hkd, qvd_api;
GRANT INSERT, UPDATE ON homes TO qvd_hkd;
GRANT UPDATE (state, state_at, error_id, error, error_ref) ON home_jobs TO qvd_hkd;
GRANT INSERT, DELETE ON home_jobs TO qvd_api;
