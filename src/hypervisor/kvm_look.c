/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How full the disks of machines are, and whether they stand still for that.
 * The latter only QEMU knows. A guest may have taken its QEMU over, and keeps
 * it from answering: many are asked at once, so that all who are silent cost
 * what one does, and who is answered for is let go at once, for whoever
 * suspends or stops it waits for the monitor.
 */
#include <poll.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hypervisor/kvm_priv.h"
#include "json/json.h"

#define ASKED_AT_ONCE 64   /* descriptors */
#define ANSWER_MS     1000 /* for all of them */

/* What an image that is a disk has as its changes isn't there as a tree's, and
 * so not looked at. */
int
kvm_look(const struct hv_op *op, struct hv_look *ret, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *record = hv_record_json(op->node, op->vm_id);
	struct storage_disk_vm disk = { .data_dir = op->node->data_dir,
		.vm_id = op->vm_id,
		.of_tree = true };
	struct hv_vm vm;

	kvm_vm_of_record(record, &vm);
	if (!hv_is_checksum(vm.checksum))
		return err_set(err, ERR_NOT_FOUND, "its record is gone");
	disk.checksum = vm.checksum;
	disk.is_volatile = vm.is_volatile;
	return storage_disk_fill(&disk, &ret->system, &ret->home, err);
}

/* One machine, and the command whose answer is awaited. */
struct asked {
	struct hv_looked *vm;
	struct qmp_ask ask;
	bool going_on;
};

static void
give_up(struct asked *a, const struct err *err)
{
	log_err(LOG_LEVEL_DEBUG, err, "ask VM %lld whether it stands still",
	    (long long)a->vm->vm_id);
	qmp_ask_done(&a->ask);
}

static void
begin(const struct hv_node *node, struct asked *a, struct hv_looked *vm)
{
	_cleanup_(freep)
	char *dir = hv_vm_dir(node, vm->vm_id);
	_cleanup_(freep)
	char *path = kvm_qmp_path(dir);
	struct err err = { 0 };

	*a = (struct asked){ .vm = vm };
	if (qmp_ask_init(&a->ask, path, "query-status", &err) < 0)
		give_up(a, &err);
}

/* QEMU pauses a guest whose writes the node's disk has no room for (its error
 * policy for disks is "enospc"), and tries them again when it goes on. */
static void
take_answer(struct asked *a, bool go_on)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	struct err err = { 0 };
	int r = qmp_ask_read(&a->ask, &answer, &err);

	if (r == 0)
		return; /* not whole yet */
	if (r < 0) {
		give_up(a, &err);
		return;
	}
	if (!a->going_on)
		a->vm->look.paused =
		    str_eq(json_get_str(answer, "status", ""), "io-error")
			? HV_PAUSED
			: HV_RUNS;
	/* In the same breath. */
	if (a->vm->look.paused == HV_PAUSED && go_on && !a->going_on) {
		a->going_on = true;
		if (qmp_ask_next(&a->ask, "cont", &err) < 0)
			give_up(a, &err);
		return;
	}
	qmp_ask_done(&a->ask);
}

/* Those that still owe an answer; returns how many. */
static nfds_t
fill_polls(const struct asked *asked, size_t n, struct pollfd *polls)
{
	nfds_t open = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		polls[i] =
		    (struct pollfd){ .fd = asked[i].ask.fd, .events = POLLIN };
		open += polls[i].fd >= 0;
	}
	return open;
}

static void
ask_some(
    const struct hv_node *node, struct hv_looked *vms, size_t n, bool go_on)
{
	int64_t until_ms = time_now_ms() + ANSWER_MS, left;
	struct pollfd polls[ASKED_AT_ONCE];
	struct asked asked[ASKED_AT_ONCE];
	struct err err;
	size_t i;

	for (i = 0; i < n; i++)
		begin(node, &asked[i], &vms[i]);
	while (fill_polls(asked, n, polls) > 0 &&
	       (left = until_ms - time_now_ms()) > 0 &&
	       poll(polls, (nfds_t)n, (int)left) >= 0)
		for (i = 0; i < n; i++)
			if (polls[i].fd >= 0 && polls[i].revents != 0)
				take_answer(&asked[i], go_on);
	err_set(&err, ERR_TIMEOUT, "QEMU's monitor doesn't answer");
	for (i = 0; i < n; i++)
		if (asked[i].ask.fd >= 0)
			give_up(&asked[i], &err);
}

void
kvm_ask_paused(
    const struct hv_node *node, struct hv_looked *vms, size_t n, bool go_on)
{
	size_t i, some;

	for (i = 0; i < n; i += some) {
		some = n - i < ASKED_AT_ONCE ? n - i : ASKED_AT_ONCE;
		ask_some(node, vms + i, some, go_on);
	}
}
