-- SPDX-License-Identifier: GPL-3.0-or-later
-- A tenant's range of host user ids outlives it: on the nodes files of its
-- desktops may still lie that are owned by these ids, so nobody else may
-- get them soon. Every range that was ever given is noted, and when its
-- tenant went.

CREATE TABLE idmap_slots (
	slot     integer PRIMARY KEY CHECK (slot BETWEEN 0 AND 999),
	freed_at timestamptz              -- NULL: a tenant has it
);
INSERT INTO idmap_slots (slot) SELECT idmap_slot FROM tenants;

-- A range that nobody ever had; when there is none left, the one that has
-- been free for longest, if that is a month.
CREATE FUNCTION pick_idmap_slot() RETURNS integer LANGUAGE sql STABLE AS $$
	SELECT coalesce(
	    (SELECT min(s) FROM generate_series(0, 999) s WHERE NOT EXISTS
	        (SELECT FROM idmap_slots i WHERE i.slot = s)),
	    (SELECT slot FROM idmap_slots
	        WHERE freed_at < now() - interval '30 days'
	        ORDER BY freed_at, slot LIMIT 1))
$$;

CREATE FUNCTION note_idmap_slot() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = qvd AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		UPDATE idmap_slots SET freed_at = now() WHERE slot = OLD.idmap_slot;
	ELSE
		INSERT INTO idmap_slots (slot) VALUES (NEW.idmap_slot)
		    ON CONFLICT (slot) DO UPDATE SET freed_at = NULL;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER tenants_idmap AFTER INSERT OR DELETE ON tenants
	FOR EACH ROW EXECUTE FUNCTION note_idmap_slot();

GRANT SELECT ON idmap_slots TO qvd_api;
