/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * "Commit what I did in this desktop": image and changes as the kernel merges
 * them, whiteouts, opaque and renamed directories included, read-only (a
 * btrfs root has both in one already, with the desktop's own ids). All
 * mounts are in this process's own namespace and stand on the directories
 * that they show, so that nothing is left of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "hkd/image_ops.h"
#include "json/json.h"
#include "model/states.h"
#include "storage/disk.h"
#include "storage/storage.h"

#define RECORD_MAX     65536
#define PACKED_PERCENT 90 /* what a machine has told of its changes */

static char *
record_path(const struct image_op_node *node, const char *vm)
{
	return xasprintf("%s/vms/%s/run.json", node->run_dir, vm);
}

static int
mount_merged(
    const char *data_dir, const char *upper, const char *tree, struct err *err)
{
	_cleanup_(freep)
	char *options = xasprintf("lowerdir=%s:%s,redirect_dir=follow",
	    upper + strlen(data_dir) + 1, tree + strlen(data_dir) + 1);

	/* Relative names: the option has its own opinion of ',' and ':'. */
	if (chdir(data_dir) < 0 ||
	    mount("overlay", upper, "overlay",
		MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC, options) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "mount the desktop's root (overlay)");
	if (chdir("/") < 0)
		return err_errno(err, ERR_SYSTEM, errno, "go to /");
	return 0;
}

/* Afterwards `upper` shows the desktop's root as it is in its next start. */
static int
show_root(const struct image_op_node *node, const char *upper, const char *base,
    struct err *err)
{
	_cleanup_(freep)
	char *tree = xasprintf("%s/images/trees/%s", node->data_dir, base);
	int r;

	if ((r = image_checkout(node->data_dir, base, err)) < 0 ||
	    (r = storage_mount_idmapped(
		 tree, tree, node->userns, MOUNT_ATTR_RDONLY, err)) < 0)
		return r;
	return mount_merged(node->data_dir, upper, tree, err);
}

/* What image_op_show() has mounted, or a plain directory. */
static char *
find_upper(const struct image_op_node *node, long long vm, const char *base)
{
	char *shown =
	    xasprintf("%s/vms/%lld/%s/shown/upper", node->data_dir, vm, base);

	if (fs_exists(shown))
		return shown;
	free(shown);
	return xasprintf("%s/vms/%lld/%s/upper", node->data_dir, vm, base);
}

static bool
is_of_machine(const json_t *args)
{
	return str_eq(json_get_str(args, "hypervisor", ""),
	    hypervisor_to_str(HYPERVISOR_KVM));
}

int
image_op_show(
    const struct image_op_node *node, const json_t *args, struct err *err)
{
	long long vm = json_get_int(args, "vm_id", 0);
	_cleanup_(freep)
	char *name = xasprintf("%lld", vm);
	_cleanup_(freep)
	char *record = record_path(node, name);

	/* The commit says that it can't be done; and a machine's changes come
	 * as a file. */
	if (fs_exists(record) || is_of_machine(args))
		return 0;
	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make a mount namespace");
	return storage_root_show(
	    node->data_dir, vm, json_get_str(args, "base", ""), err);
}

/* What a machine has told (hypervisor/kvm_pack.c) is on descriptor 1: a tar, or
 * a whole disk. */
static int
commit_machine(
    const struct image_op_node *node, const json_t *args, struct err *err)
{
	long long vm = json_get_int(args, "vm_id", 0);
	const char *base = json_get_str(args, "base", ""), *format;
	_cleanup_(freep)
	char *tree = xasprintf("%s/images/trees/%s", node->data_dir, base);
	struct image_imported done;
	struct image_import import;
	int r = 0;

	image_op_import(node, args, &import);
	import.source = "/proc/self/fd/1";
	import.base = base;
	import.is_desktop = true;
	import.login = json_get_str(args, "login", "");
	image_op_import_from(&import, PACKED_PERCENT);
	if (storage_disk_is(tree)) {
		import.file_as = "disk.qcow2";
		r = storage_disk_file(import.source, &format, err);
	}
	if (r < 0 || (r = image_import(&import, &done, err)) < 0)
		return err_wrap(err, r, "commit VM %lld", vm);
	return image_op_imported(node, &done, err);
}

static int
commit_container(
    const struct image_op_node *node, const json_t *args, struct err *err)
{
	long long vm = json_get_int(args, "vm_id", 0);
	const char *base = json_get_str(args, "base", "");
	_cleanup_(freep)
	char *name = xasprintf("%lld", vm);
	_cleanup_(freep)
	char *record = record_path(node, name);
	_cleanup_(freep)
	char *upper = find_upper(node, vm, base);
	_cleanup_(freep)
	char *root = xasprintf("%s/vms/%lld/%s/root", node->data_dir, vm, base);
	_cleanup_(freep)
	char *tree = xasprintf("%s/images/trees/%s", node->data_dir, base);
	bool whole = fs_exists(root);
	struct image_import import;
	struct image_imported done;
	int r;

	if (fs_exists(record))
		return err_set(err, ERR_CONFLICT,
		    "VM %lld runs; stop it first ('qvd vm stop %lld'), so "
		    "that its files are whole",
		    vm, vm);
	if (!whole && !fs_exists(upper))
		return err_set(err, ERR_NOT_FOUND,
		    "VM %lld has no changes of its own to image %.12s on this "
		    "node: it hasn't run from it, or its root is volatile",
		    vm, base);
	image_op_import(node, args, &import);
	import.source = whole ? root : upper;
	import.under = tree;
	import.is_desktop = true;
	if (!whole)
		import.id_base =
		    storage_id_base((int)json_get_int(args, "idmap_slot", 0));
	import.login = json_get_str(args, "login", "");
	if ((r = whole ? image_checkout(node->data_dir, base, err)
		       : show_root(node, upper, base, err)) < 0 ||
	    (r = image_import(&import, &done, err)) < 0)
		return err_wrap(err, r, "commit VM %lld", vm);
	return image_op_imported(node, &done, err);
}

int
image_op_commit(
    const struct image_op_node *node, const json_t *args, struct err *err)
{
	return is_of_machine(args) ? commit_machine(node, args, err)
				   : commit_container(node, args, err);
}

static char *
read_use(const char *path)
{
	_cleanup_(freep)
	char *text = NULL;
	_cleanup_(json_decrefp)
	json_t *record = NULL;
	const char *checksum;
	size_t len;

	if (fs_read_file(path, RECORD_MAX, &text, &len, NULL) < 0 ||
	    json_parse(text, len, &record, NULL) < 0)
		return NULL;
	checksum = json_get_str(record, "checksum", NULL);
	return checksum == NULL ? NULL : xstrdup(checksum);
}

struct uses {
	const struct image_op_node *node;
	char **list;
	size_t n, cap;
};

static int
add_use(const struct fs_entry *e, void *arg, struct err *err)
{
	struct uses *u = arg;
	_cleanup_(freep)
	char *path = record_path(u->node, e->name);
	char *checksum = read_use(path);

	/* One that ended meanwhile took its record along. */
	if (checksum == NULL && !fs_exists(path))
		return 0;
	if (checksum == NULL)
		return err_set(err, ERR_SYSTEM,
		    "%s can't be read, so the image that VM %s runs from isn't "
		    "known and nothing is removed; restart that VM",
		    path, e->name);
	if (u->n == u->cap)
		u->list = xrealloc(
		    u->list, u->cap = u->cap * 2 + 16, sizeof(*u->list));
	u->list[u->n++] = checksum;
	return 0;
}

int
image_desktops_use(const struct image_op_node *node, char ***ret, size_t *ret_n,
    struct err *err)
{
	_cleanup_(freep)
	char *dir = xasprintf("%s/vms", node->run_dir);
	struct uses u = { .node = node };
	int r = fs_each_entry(dir, add_use, &u, err);

	*ret = u.list;
	*ret_n = u.n;
	return r;
}
