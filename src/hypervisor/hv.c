/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hypervisor/hv.h"

#include <ctype.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "json/json.h"
#include "model/device.h"
#include "model/egress.h"
#include "storage/storage.h"

const struct field hv_node_fields[] = { FIELD(struct hv_node, run_dir, STR,
					    .flags = FIELD_REQUIRED),
	FIELD(struct hv_node, data_dir, STR, .flags = FIELD_REQUIRED),
	FIELD(struct hv_node, programs_dir, STR, .flags = FIELD_REQUIRED),
	FIELD(struct hv_node, cgroup, STR, .flags = FIELD_REQUIRED),
	FIELD(struct hv_node, bridge, STR), FIELD(struct hv_node, gateway, STR),
	FIELD(struct hv_node, prefix, I32),
	FIELD(struct hv_node, gateway6, STR),
	FIELD(struct hv_node, prefix6, I32), FIELD(struct hv_node, dns, STR),
	FIELD(struct hv_node, limits_optional, BOOL), FIELD_END };

const struct field hv_vm_fields[] = { FIELD(struct hv_vm, vm_id, I64,
					  .flags = FIELD_REQUIRED, .min = 1,
					  .max = HV_VM_ID_MAX),
	FIELD(struct hv_vm, epoch, I64, .flags = FIELD_REQUIRED, .min = 0,
	    .max = INT64_MAX),
	FIELD(struct hv_vm, hypervisor, STR, .max = 16),
	FIELD(struct hv_vm, hostname, STR, .flags = FIELD_REQUIRED, .max = 64),
	FIELD(struct hv_vm, checksum, STR, .flags = FIELD_REQUIRED, .max = 64),
	FIELD_AS(struct hv_vm, is_volatile, "volatile", BOOL),
	FIELD(struct hv_vm, address, STR, .flags = FIELD_REQUIRED, .max = 15),
	FIELD(struct hv_vm, idmap_slot, I32, .flags = FIELD_REQUIRED, .min = 0,
	    .max = STORAGE_SLOT_MAX),
	FIELD(struct hv_vm, memory_mb, I64, .flags = FIELD_REQUIRED, .min = 16,
	    .max = 4194304),
	FIELD(struct hv_vm, swap_mb, I64, .min = 0, .max = 4194304),
	FIELD(struct hv_vm, cpu_percent, I32, .min = 0, .max = 102400),
	FIELD(struct hv_vm, cpu_weight, I32, .min = 1, .max = 10000),
	FIELD(struct hv_vm, io_weight, I32, .min = 1, .max = 10000),
	FIELD(struct hv_vm, pids_max, I32, .flags = FIELD_REQUIRED, .min = 16,
	    .max = 1000000),
	FIELD(struct hv_vm, home_mb, I32, .min = 0, .max = INT32_MAX),
	FIELD(struct hv_vm, egress, STR, .max = EGRESS_TEXT_MAX,
	    .check = egress_check),
	FIELD(struct hv_vm, rate_kbit, I64, .min = 0, .max = INT32_MAX),
	FIELD_ENUM_OF(struct hv_vm, home_store, home_store_words),
	FIELD_ENUM_OF(struct hv_vm, root_store, root_store_words),
	FIELD(struct hv_vm, root_mb, I32, .min = 0, .max = INT32_MAX),
	FIELD(struct hv_vm, devices, STR, .max = DEVICE_TEXT_MAX,
	    .check = device_check),
	FIELD(struct hv_vm, accel, STR, .max = 8),
	FIELD(struct hv_vm, machine, STR, .max = 16),
	FIELD(struct hv_vm, memory_merge, BOOL),
	FIELD(struct hv_vm, resume, BOOL), FIELD_END };

const struct hv_vm hv_vm_defaults = {
	.hypervisor = "lxc",
	.cpu_weight = 100,
	.io_weight = 100,
	.devices = "",
	.accel = "auto",
	.machine = "q35",
};

const struct field hv_limits_fields[] = { FIELD(
					      struct hv_limits, memory_mb, I64),
	FIELD(struct hv_limits, swap_mb, I64),
	FIELD(struct hv_limits, cpu_percent, I32),
	FIELD(struct hv_limits, cpu_weight, I32),
	FIELD(struct hv_limits, io_weight, I32),
	FIELD(struct hv_limits, pids_max, I32), FIELD_END };

bool
hv_is_vm_id(int64_t vm_id)
{
	return vm_id >= 1 && vm_id <= HV_VM_ID_MAX;
}

bool
hv_is_checksum(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

/* RFC 1123, with dots. */
bool
hv_is_hostname(const char *s)
{
	size_t i, n = strlen(s);

	if (n == 0 || n > 63)
		return false;
	for (i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (!isalnum(c) && c != '-' && c != '.')
			return false;
		if (c != '.' && c != '-')
			continue;
		if (i == 0 || i == n - 1 || (c == '.' && s[i - 1] == '.'))
			return false;
	}
	return true;
}

int
hv_vm_check(const struct hv_vm *vm, struct err *err)
{
	if (!hv_is_vm_id(vm->vm_id))
		return err_set(err, ERR_PARAMETER, "vm_id: not an id");
	if (!hv_is_checksum(vm->checksum))
		return err_set(
		    err, ERR_PARAMETER, "checksum: not 64 hexadecimal digits");
	if (!hv_is_hostname(vm->hostname))
		return err_set(err, ERR_PARAMETER,
		    "hostname: not letters, digits and '-', at most 63");
	if (str_eq(vm->hypervisor, "lxc") && vm->resume)
		return err_set(err, ERR_CONFLICT,
		    "it was suspended as a virtual machine, and its OSF runs "
		    "containers now: set that back (qvd osf set OSF "
		    "--hypervisor kvm), or stop it, which loses what was open");
	if (str_eq(vm->hypervisor, "kvm") && vm->devices[0] != '\0')
		return err_set(err, ERR_CONFIG,
		    "devices of the node are for containers; take them from "
		    "the OSF (qvd osf set OSF --devices '')");
	return 0;
}

static bool
is_plain_path(const char *s)
{
	return s[0] == '/' &&
	       s[strspn(s,
		   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		   "0123456789/_.+-")] == '\0' &&
	       strstr(s, "/../") == NULL && !str_ends(s, "/..");
}

int
hv_node_check(const struct hv_node *node, struct err *err)
{
	/* A unix address and liblxc's hash of it must fit. */
	if (!is_plain_path(node->run_dir) || strlen(node->run_dir) > 80)
		return err_set(err, ERR_CONFIG,
		    "[paths] run '%s': an absolute path of at most 80 "
		    "letters, digits and ._+- is needed",
		    node->run_dir);
	if (node->cgroup[0] == '/' || node->cgroup[0] == '\0' ||
	    strlen(node->cgroup) > 200 ||
	    node->cgroup[strspn(node->cgroup,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789/_.@-")] != '\0' ||
	    strstr(node->cgroup, "..") != NULL)
		return err_set(err, ERR_CONFIG,
		    "[node] cgroup '%s': a relative path of letters, digits "
		    "and ._@- is needed, such as 'qvd'",
		    node->cgroup);
	if (node->data_dir[0] != '/' || node->programs_dir[0] != '/')
		return err_set(err, ERR_CONFIG,
		    "[paths] data and programs must be absolute paths");
	return 0;
}

void
hv_phase(struct hv_run *run, const char *name, int64_t *since_us)
{
	int64_t now = time_now_us();

	if (run->n_phases < HV_PHASES_MAX) {
		run->phases[run->n_phases].name = name;
		run->phases[run->n_phases++].us = now - *since_us;
	}
	*since_us = now;
}

char *
hv_vm_dir(const struct hv_node *node, int64_t vm_id)
{
	return xasprintf("%s/vms/%lld", node->run_dir, (long long)vm_id);
}

static const struct hv_ops *const hypervisors[] = { &hv_lxc, &hv_kvm };

int
hv_by_name(const char *name, const struct hv_ops **ret, struct err *err)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(hypervisors); i++) {
		if (str_eq(hypervisors[i]->name, name)) {
			*ret = hypervisors[i];
			return 0;
		}
	}
	return err_set(
	    err, ERR_PARAMETER, "hypervisor: there is no '%.16s'", name);
}

const struct hv_ops *
hv_of_vm(const struct hv_node *node, int64_t vm_id)
{
	_cleanup_(json_decrefp)
	json_t *record = hv_record_json(node, vm_id);
	const struct hv_ops *ops = &hv_lxc;

	hv_by_name(json_get_str(record, "hypervisor", ""), &ops, NULL);
	return ops;
}

/* Profiles may be thousands. */
#define PROFILES_MAX (4 << 20)

enum apparmor
hv_apparmor(void)
{
	_cleanup_(freep)
	char *enabled = NULL;
	_cleanup_(freep)
	char *profiles = NULL;

	/* A kernel without AppArmor has neither. */
	if (fs_read_file("/sys/module/apparmor/parameters/enabled", 64,
		&enabled, NULL, NULL) == 0)
		fs_read_file("/sys/kernel/security/apparmor/profiles",
		    PROFILES_MAX, &profiles, NULL, NULL);
	return apparmor_judge(enabled, profiles);
}
