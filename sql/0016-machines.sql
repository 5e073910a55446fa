-- SPDX-License-Identifier: GPL-3.0-or-later
-- Which machine an OSF's virtual machines are, and what runs their CPUs;
-- 'node': as the node says (vm.kvm.machine, vm.kvm.accel).

ALTER TABLE osfs
	ADD COLUMN machine text NOT NULL DEFAULT 'node',
	ADD CONSTRAINT osfs_machine_check CHECK (machine IN ('node', 'q35', 'microvm')),
	ADD COLUMN accel text NOT NULL DEFAULT 'node',
	ADD CONSTRAINT osfs_accel_check CHECK (accel IN ('node', 'auto', 'kvm', 'tcg'));
