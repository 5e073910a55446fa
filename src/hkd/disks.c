/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hkd/disks.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "hkd/vm.h"
#include "json/json.h"
#include "storage/fill.h"

#define LOOK_MS 120000
#define MB(kb)  ((long long)(kb) / 1024)

static const char *const names[NODE_DISKS] = { "", "/images", "/vms",
	"/homes" };

/* How loudly something is told. What is full is an incident, which has a
 * reference. */
enum tone { TONE_NOTE, TONE_WARNING, TONE_INCIDENT };

/* The events of a word: what it was before doesn't matter. */
static const struct {
	const char *vm, *host;
	const char *is;
	enum tone tone;
} tells[FILL_COUNT_] = {
	[FILL_OK] = { "vm.disk-room", "host.disk-room", "has room again",
	    TONE_NOTE },
	[FILL_HIGH] = { "vm.disk-high", "host.disk-high", "is nearly full",
	    TONE_WARNING },
	[FILL_FULL] = { "vm.disk-full", "host.disk-full", "is full",
	    TONE_INCIDENT },
};

static void tell(struct node *node, struct event event, enum tone tone,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void
tell(
    struct node *node, struct event event, enum tone tone, const char *fmt, ...)
{
	enum log_level level =
	    tone == TONE_NOTE ? LOG_LEVEL_INFO : LOG_LEVEL_WARN;
	bool bad = tone == TONE_INCIDENT;
	char ref[REF_LEN + 1], text[640], who[40] = "";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (bad) {
		ref_make(ref);
		event.ref = ref;
		event.error_id = err_id(ERR_NO_SPACE);
	}
	store_event(node, &event, "%s", text);
	if (event.vm_id != 0)
		snprintf(who, sizeof(who), "VM %lld: ", (long long)event.vm_id);
	log_write(level, "%s%s%s%s", who, text, bad ? ", reference " : "",
	    bad ? ref : "");
}

/* The node's */

/* The first directory of a file system speaks for all. */
static bool
is_new(const struct node_disks *disks, int i)
{
	int j;

	for (j = 0; j < i; j++)
		if (disks->v[j].shown && disks->v[j].dev == disks->v[i].dev)
			return false;
	return true;
}

static void
tell_disk(struct node *node, const struct node_disk *disk)
{
	const struct event event = { .name = tells[disk->fill].host,
		.duration_ms = -1 };
	const struct fill_facts *f = &disk->facts;

	tell(node, event, tells[disk->fill].tone,
	    "the disk of %s %s: %lld of %lld MiB are left (%d %% used)%s",
	    disk->path, tells[disk->fill].is, MB(f->size_kb - f->used_kb),
	    MB(f->size_kb), fill_percent(f),
	    disk->fill == FILL_FULL
		? "; what desktops write fails, and virtual machines are "
		  "paused until there is room"
	    : disk->fill == FILL_HIGH ? "; 'qvd image gc' and 'qvd home list' "
					"show what can go"
				      : "");
}

static void
look_at_node(struct node *node)
{
	struct node_disks *disks = &node->disks;
	int i;

	for (i = 0; i < NODE_DISKS; i++) {
		struct node_disk *disk = &disks->v[i];
		enum fill was = disk->fill;
		struct stat st;

		disk->shown = stat(disk->path, &st) == 0;
		disk->dev = disk->shown ? st.st_dev : 0;
		disk->shown =
		    disk->shown && is_new(disks, i) &&
		    fill_of_file_system(disk->path, &disk->facts, NULL) == 0;
		if (!disk->shown)
			continue;
		disk->fill = fill_level(was, &disk->facts);
		if (disk->fill != was)
			tell_disk(node, disk);
	}
}

static bool
node_has_room(const struct node *node)
{
	int i;

	for (i = 0; i < NODE_DISKS; i++)
		if (node->disks.v[i].shown &&
		    node->disks.v[i].fill == FILL_FULL)
			return false;
	return true;
}

/* A VM's */

static struct event
vm_note(const struct vm *vm, const char *name, int64_t duration_ms)
{
	return (struct event){ .name = name,
		.vm_id = vm->id,
		.user_id = vm->want.user_id,
		.image_id = vm->image_id,
		.duration_ms = duration_ms };
}

/* What can be done, or what more there is to know. */
static const char *
advice(const struct vm *vm, enum vm_disk which, enum fill fill)
{
	if (fill == FILL_OK)
		return "";
	/* Its disk is seen from outside. */
	if (vm->want.hypervisor == HYPERVISOR_KVM)
		return "; it may be less in the machine, if its system doesn't "
		       "give back what is removed (fstrim)";
	if (which == VM_DISK_HOME)
		return "; 'qvd home grow' makes it larger";
	return "; a larger node.storage.root.mb counts from its next start";
}

static void
take_disk(struct vm *vm, enum vm_disk which, const struct fill_facts *f)
{
	static const char *const what[VM_DISK_COUNT_] = {
		[VM_DISK_SYSTEM] = "the space for changes to its system",
		[VM_DISK_HOME] = "its home",
	};
	enum fill fill = fill_level(vm->disks.fill[which], f);
	char files[80] = "";

	vm->disks.facts[which] = *f;
	if (fill == vm->disks.fill[which])
		return;
	vm->disks.fill[which] = fill;
	if (vm->disks.told[which] > fill)
		vm->disks.told[which] = fill;
	if (fill != FILL_OK)
		snprintf(files, sizeof(files),
		    " and %lld %% of the files that it can have",
		    (long long)f->files_permille / 10);
	tell(vm->node, vm_note(vm, tells[fill].vm, -1), tells[fill].tone,
	    "%s %s: %lld of %lld MiB are taken%s%s", what[which],
	    tells[fill].is, MB(f->used_kb), MB(f->size_kb), files,
	    advice(vm, which, fill));
	vm_save(vm);
	vm_disks_look(vm);
}

/* One that was let go on and stands still again has not gone on. */
static void
take_paused(struct vm *vm, bool paused)
{
	struct vm_disks *d = &vm->disks;

	if (paused == d->paused)
		return;
	d->paused = paused;
	if (paused) {
		d->paused_ms = time_now_ms();
		tell(vm->node, vm_note(vm, "vm.paused", -1), TONE_INCIDENT,
		    "QEMU has paused it, because the node's disk has no room "
		    "for what it writes; it goes on by itself when there is");
	} else {
		tell(vm->node,
		    vm_note(vm, "vm.continued", time_now_ms() - d->paused_ms),
		    TONE_NOTE, "it goes on: the node's disk has room again");
	}
	vm_save(vm);
}

static void
facts_of(const json_t *row, enum look at, struct fill_facts *ret)
{
	int64_t v[3];
	size_t i;

	for (i = 0; i < 3; i++)
		v[i] = json_integer_value(json_array_get(row, (size_t)at + i));
	*ret = (struct fill_facts){ v[0], v[1], v[2] };
}

static void
on_looked(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct node *node = arg;
	struct fill_facts facts;
	const json_t *row;
	json_int_t paused;
	struct vm *vm;
	size_t i;

	closep(&fd);
	node->disks.request = NULL;
	if (err != NULL) {
		if (!rpc_is_cut(node->helper))
			log_err(LOG_LEVEL_WARN, err,
			    "look at the disks of this node's VMs");
		return;
	}
	json_array_foreach (json_object_get(result, "vms"), i, row) {
		vm = map_get(&node->vms, (uint64_t)json_integer_value(
					     json_array_get(row, LOOK_VM_ID)));
		/* It may have ended meanwhile. */
		if (vm == NULL || vm->state != VM_STATE_RUNNING)
			continue;
		facts_of(row, LOOK_SYSTEM, &facts);
		take_disk(vm, VM_DISK_SYSTEM, &facts);
		facts_of(row, LOOK_HOME, &facts);
		take_disk(vm, VM_DISK_HOME, &facts);
		paused = json_integer_value(json_array_get(row, LOOK_PAUSED));
		/* Less: it didn't answer. */
		if (paused >= 0)
			take_paused(vm, paused != 0);
	}
}

static bool
any_awake(const struct node *node)
{
	struct vm *vm;

	MAP_EACH (&node->vms, vm)
		if (vm->state == VM_STATE_RUNNING && !vm->hibernated)
			return true;
	return false;
}

static void
on_timer(void *arg)
{
	struct node *node = arg;

	timer_start(&node->disks.timer, node->disks.every_ms);
	if (!node_is_running(node))
		return;
	look_at_node(node);
	/* A look that takes so long is not begun twice. */
	if (node->disks.request == NULL && any_awake(node))
		node->disks.request = rpc_ask(node->helper, "vm.disks",
		    json_pack("{sb}", "go_on", (int)node_has_room(node)), -1,
		    LOOK_MS, on_looked, node);
}

void
disks_begin(struct node *node)
{
	if (node->disks.every_ms == node->settings.look_ms)
		return;
	node->disks.every_ms = node->settings.look_ms;
	on_timer(node);
}

void
disks_init(struct node *node)
{
	int i;

	timer_init(&node->disks.timer, node->loop, on_timer, node);
	for (i = 0; i < NODE_DISKS; i++)
		node->disks.v[i].path =
		    xasprintf("%s%s", node->conf->data_dir, names[i]);
}

void
disks_done(struct node *node)
{
	int i;

	timer_done(&node->disks.timer);
	if (node->disks.request != NULL)
		rpc_request_cancel(take_ptr(node->disks.request));
	for (i = 0; i < NODE_DISKS; i++)
		free(node->disks.v[i].path);
}
