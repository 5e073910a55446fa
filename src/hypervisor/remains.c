/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a crash can leave on a node beside single VMs: mounts below our
 * run directory (each VM's are in a mount namespace of its own, the node has
 * none there), loop devices on files of our data directory, volumes that were
 * never finished, and the changes of VMs to their images, of which only the
 * database knows whether the VM still exists. Found by our own names only; who
 * may be removed decides main, that it can be, each removal itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "hypervisor/hv_priv.h"
#include "storage/storage.h"
#include "storage/unfinished.h"

#define MOUNTINFO_MAX (8 << 20)
#define LOOPS         "/sys/block"
#define CLOCKS_MS     60000 /* that a file's clock may be ahead of ours */

static void
add(json_t *items, const char *kind, int64_t vm_id, const char *name)
{
	json_array_append_new(
	    items, json_pack("{ss sI ss}", "kind", kind, "vm_id",
		       (json_int_t)vm_id, "name", name));
}

struct finding {
	const struct hv_node *node;
	json_t *items;
};

static int
add_changes(const struct fs_entry *e, void *arg, struct err *err)
{
	const struct finding *f = arg;
	int64_t id;

	if (str_to_i64(e->name, 1, HV_VM_ID_MAX, &id))
		add(f->items, "changes", id, e->name);
	return 0;
}

static int
find_changes(struct finding *f, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/vms", f->node->data_dir);

	return fs_each_entry(path, add_changes, f, err);
}

static bool
is_our_mount(const struct hv_node *node, const char *path)
{
	_cleanup_(freep)
	char *top = xasprintf("%s/mnt", node->run_dir);
	size_t n = strlen(top);

	return strncmp(path, top, n) == 0 &&
	       (path[n] == '\0' || path[n] == '/') &&
	       strstr(path, "/../") == NULL && !str_ends(path, "/..");
}

/* The last ones first: what is mounted over others. */
static int
find_mounts(const struct hv_node *node, json_t *items, struct err *err)
{
	_cleanup_(freep)
	char *text = NULL;
	char *line, *next, *path;
	int i, r;

	if ((r = fs_read_file(
		 "/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL, err)) < 0)
		return r;
	for (line = text; *line != '\0'; line = next) {
		next = line + strcspn(line, "\n");
		if (*next != '\0')
			*next++ = '\0';
		for (i = 0, path = line; i < 5 && path != NULL; i++)
			path = strsep(&line, " "); /* the fifth is where */
		if (path != NULL && is_our_mount(node, path))
			json_array_insert_new(items, 0,
			    json_pack("{ss sI ss}", "kind", "mount", "vm_id",
				(json_int_t)0, "name", path));
	}
	return 0;
}

/* "loop5" -> the file behind it, if it is one of ours; and whose. */
static bool
is_our_loop(const struct hv_node *node, const char *name, int64_t *ret_vm_id)
{
	static const char *const dirs[] = { "homes", "vms" };
	char path[320];
	_cleanup_(freep)
	char *file = NULL;
	size_t i;
	int n;

	if (!str_starts(name, "loop") || !str_to_int(name + 4, 0, 1 << 20, &n))
		return false;
	snprintf(path, sizeof(path), LOOPS "/%s/loop/backing_file", name);
	if (fs_read_file(path, 4096, &file, NULL, NULL) < 0)
		return false;
	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		_cleanup_(freep)
		char *ours = xasprintf("%s/%s/", node->data_dir, dirs[i]);
		char *end = file + strlen(ours);

		if (!str_starts(file, ours))
			continue;
		end[strspn(end, "0123456789")] = '\0';
		return str_to_i64(end, 1, HV_VM_ID_MAX, ret_vm_id);
	}
	return false;
}

static int
add_loop(const struct fs_entry *e, void *arg, struct err *err)
{
	const struct finding *f = arg;
	int64_t vm_id;

	if (is_our_loop(f->node, e->name, &vm_id))
		add(f->items, "loop device", vm_id, e->name);
	return 0;
}

static bool
add_unfinished(int64_t vm_id, const char *name, void *arg)
{
	if (hv_is_vm_id(vm_id))
		add(arg, "unfinished volume", vm_id, name);
	return true;
}

int
hv_remains_find(const struct hv_node *node, json_t *items, struct err *err)
{
	struct finding f = { .node = node, .items = items };
	int r;

	/* Mounts before the devices that they may be of. */
	if ((r = fs_each_entry(LOOPS, add_loop, &f, err)) < 0 ||
	    (r = find_mounts(node, items, err)) < 0 ||
	    (r = unfinished_each(node->data_dir, add_unfinished, items, err)) <
		0)
		return r;
	return find_changes(&f, err);
}

static int
remove_changes(const struct hv_node *node, int64_t vm_id, struct err *err)
{
	_cleanup_(freep)
	char *path = NULL;
	struct hv_op op;
	bool did;
	int r, n;

	if (!hv_is_vm_id(vm_id))
		return err_set(err, ERR_PARAMETER, "vm_id: not an id");
	if ((r = hv_op_init(&op, node, vm_id, err)) < 0)
		return r;
	path = xasprintf("%s/vms/%lld", node->data_dir, (long long)vm_id);
	if ((r = hv_check_not_there(&op, err)) == 0 &&
	    (r = storage_root_clean(node->data_dir, vm_id, &did, err)) == 0 &&
	    (r = storage_root_collect(
		 node->data_dir, vm_id, "", -CLOCKS_MS, &n, err)) == 0)
		r = fs_remove_tree(path, err);
	hv_op_done(&op);
	return r;
}

/* Where somebody still has it, the device goes with its last user. */
static int
remove_loop(const struct hv_node *node, const char *name, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("/dev/%s", name);
	_cleanup_(closep)
	int fd = -1;
	int64_t vm_id;

	if (!is_our_loop(node, name, &vm_id))
		return err_set(
		    err, ERR_NOT_FOUND, "'%.32s' is no device of ours", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (ioctl(fd, LOOP_CLR_FD) < 0 && errno != ENXIO))
		return err_errno(err, ERR_SYSTEM, errno, "free %s", path);
	return 0;
}

int
hv_remains_remove(const struct hv_node *node, const char *kind, int64_t vm_id,
    const char *name, struct err *err)
{
	int r;

	if (str_eq(kind, "changes")) {
		r = remove_changes(node, vm_id, err);
	} else if (str_eq(kind, "loop device")) {
		r = remove_loop(node, name, err);
	} else if (str_eq(kind, "unfinished volume")) {
		r = unfinished_remove(node->data_dir, vm_id, name, err);
	} else if (str_eq(kind, "mount") && is_our_mount(node, name)) {
		r = umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 ||
			    errno == EINVAL
			? 0
			: err_errno(err, ERR_SYSTEM, errno, "unmount");
	} else {
		r = err_set(err, ERR_PARAMETER, "kind: there is none such");
	}
	return r < 0 ? err_wrap(err, r, "remove %s '%.64s'", kind, name) : 0;
}
