-- SPDX-License-Identifier: GPL-3.0-or-later
-- What desktops may reach outside of their node (model/egress.h) and how much
-- they may send, by OSF, else by tenant; NULL: the next one's word, at last
-- the farm's setting vm.network.egress and no limit. A node that runs such
-- desktops is woken, for it holds them to it while they run.

ALTER TABLE tenants
	ADD COLUMN egress      text CHECK (egress <> '' AND length(egress) <= 4096),
	ADD COLUMN egress_kbit integer CHECK (egress_kbit >= 0);
ALTER TABLE osfs
	ADD COLUMN egress      text CHECK (egress <> '' AND length(egress) <= 4096),
	ADD COLUMN egress_kbit integer CHECK (egress_kbit >= 0);

--   qvd_policies  "<id>"  of the tenant or OSF
CREATE TRIGGER tenants_notify_policy AFTER UPDATE ON tenants
	FOR EACH ROW WHEN ((OLD.egress, OLD.egress_kbit) IS DISTINCT FROM
	    (NEW.egress, NEW.egress_kbit))
	EXECUTE FUNCTION notify_column('qvd_policies', 'id');
CREATE TRIGGER osfs_notify_policy AFTER UPDATE ON osfs
	FOR EACH ROW WHEN ((OLD.egress, OLD.egress_kbit) IS DISTINCT FROM
	    (NEW.egress, NEW.egress_kbit))
	EXECUTE FUNCTION notify_column('qvd_policies', 'id');
