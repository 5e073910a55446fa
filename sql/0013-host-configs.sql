-- SPDX-License-Identifier: GPL-3.0-or-later
-- Settings of one host, which win over the farm's.

CREATE TABLE host_configs (
	host_id integer NOT NULL REFERENCES hosts ON DELETE CASCADE,
	key     text NOT NULL,
	value   text NOT NULL CHECK (length(value) <= 32768),
	PRIMARY KEY (host_id, key)
);
CREATE TRIGGER host_configs_notify AFTER INSERT OR UPDATE OR DELETE ON host_configs
	FOR EACH ROW EXECUTE FUNCTION notify_column('qvd_configs', 'key');

GRANT SELECT ON host_configs TO qvd_hkd, qvd_api;
GRANT INSERT, UPDATE, DELETE ON host_configs TO qvd_api;
