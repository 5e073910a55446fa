-- SPDX-License-Identifier: GPL-3.0-or-later
-- How full a VM's disks are, as its node saw them last, and since when its
-- QEMU has waited for room on the node's disk.

ALTER TABLE vm_runtimes
	ADD COLUMN system_fill text NOT NULL DEFAULT 'ok',
	ADD CONSTRAINT vm_runtimes_system_fill_check CHECK (system_fill IN ('ok', 'high', 'full')),
	ADD COLUMN home_fill text NOT NULL DEFAULT 'ok',
	ADD CONSTRAINT vm_runtimes_home_fill_check CHECK (home_fill IN ('ok', 'high', 'full')),
	ADD COLUMN paused_at timestamptz; -- NULL: it isn't
