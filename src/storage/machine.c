/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "storage/machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "storage/disk.h"
#include "storage/tool.h"

#define RELEASE_MAX 128
#define KERNEL_MAX  (256 << 20)
#define FORM        2 /* grows when what we make of an image changes */

static const char *const mkfs[] = { "/usr/bin/mkfs.erofs", "/sbin/mkfs.erofs",
	"/usr/sbin/mkfs.erofs", NULL };

char *
storage_machine_dir(const char *data_dir, const char *checksum)
{
	return xasprintf("%s/images/machines/%s", data_dir, checksum);
}

int
machine_open(int tree_fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NONBLOCK),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, tree_fd, path, &how, sizeof(how));
}

/* The kernel of that release, of which there are modules; -1: none. */
static int
open_kernel(int tree, const char *release)
{
	_cleanup_(freep)
	char *boot = xasprintf("boot/vmlinuz-%s", release);
	_cleanup_(freep)
	char *beside = xasprintf("lib/modules/%s/vmlinuz", release);
	_cleanup_(closep)
	int fd = machine_open(tree, boot, O_RDONLY);
	struct stat st;

	if (fd < 0)
		fd = machine_open(tree, beside, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_size > KERNEL_MAX)
		return -1;
	return take_fd(&fd);
}

static int
no_kernel(struct err *err)
{
	return err_set(err, ERR_IMAGE,
	    "the image has neither a disk (disk.qcow2 or disk.raw at its top) "
	    "nor a kernel with its modules (boot/vmlinuz-*, lib/modules/*), so "
	    "no virtual machine can boot it: install a kernel in it (Debian: "
	    "linux-image-cloud-amd64), or let its OSF run containers "
	    "('qvd osf set ... --hypervisor lxc')");
}

/* The newest release that has both. */
static int
find_kernel(
    int tree, char release[static RELEASE_MAX], int *ret_fd, struct err *err)
{
	int fd = machine_open(tree, "lib/modules", O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	int kernel;

	*ret_fd = -1;
	release[0] = '\0';
	while (dir != NULL && (e = readdir(dir)) != NULL) {
		if (!str_is_name(e->d_name, RELEASE_MAX - 1) ||
		    strverscmp(e->d_name, release) <= 0 ||
		    (kernel = open_kernel(tree, e->d_name)) < 0)
			continue;
		str_copy(release, RELEASE_MAX, e->d_name);
		closep(ret_fd);
		*ret_fd = kernel;
	}
	if (dir != NULL)
		closedir(dir);
	else
		closep(&fd);
	return *ret_fd < 0 ? no_kernel(err) : 0;
}

static int
copy_kernel(int kernel, const char *dir, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/vmlinuz", dir);
	_cleanup_(closep)
	int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	char chunk[65536];
	ssize_t n = -1;

	while (out >= 0 && (n = read(kernel, chunk, sizeof(chunk))) > 0)
		if (write(out, chunk, (size_t)n) != n) {
			n = -1;
			break;
		}
	if (out < 0 || n < 0 || fsync(out) < 0)
		return err_errno(err,
		    errno == ENOSPC ? ERR_NO_SPACE : ERR_SYSTEM, errno,
		    "copy the kernel to %s", path);
	return 0;
}

/* Says of which programs an initrd was made. */
static int
describe(const char *programs_dir, char **ret, struct err *err)
{
	static const char *const programs[] = { "qvd-boot", "qvd-vma" };
	struct stat st[ARRAY_SIZE(programs)];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(programs); i++) {
		_cleanup_(freep)
		char *path = xasprintf("%s/%s", programs_dir, programs[i]);

		if (stat(path, &st[i]) < 0)
			return err_errno(err, ERR_CONFIG, errno,
			    "look at %s, which virtual machines need", path);
	}
	*ret = xasprintf("%d %lld.%lld %lld.%lld\n", FORM,
	    (long long)st[0].st_size, (long long)st[0].st_mtime,
	    (long long)st[1].st_size, (long long)st[1].st_mtime);
	return 0;
}

static int
make_disk(const char *tree, const char *dir, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/root.erofs", dir);
	const char *const argv[] = { tool_find(mkfs), "-d0", "-zlz4", path,
		tree, NULL };

	if (argv[0] == NULL)
		return err_set(err, ERR_CONFIG,
		    "no program mkfs.erofs is there, which makes disks of "
		    "images (package erofs-utils)");
	return tool_run(argv, 0, err);
}

/* Kernel, initrd, and last the word that they are whole. */
static int
make_boot(int tree, const char *programs_dir, const char *dir,
    const char *made_of, struct err *err)
{
	_cleanup_(freep)
	char *new = xasprintf("%s/initrd.new", dir);
	_cleanup_(freep)
	char *initrd = xasprintf("%s/initrd.img", dir);
	_cleanup_(freep)
	char *note = xasprintf("%s/made-of", dir);
	char release[RELEASE_MAX];
	_cleanup_(closep)
	int kernel = -1;
	int r;

	if ((r = find_kernel(tree, release, &kernel, err)) < 0 ||
	    (r = initrd_write(tree, release, programs_dir, new, err)) < 0)
		return r;
	if (!fs_exists(note) && (r = copy_kernel(kernel, dir, err)) < 0)
		return r;
	if (rename(new, initrd) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "rename %s", new);
	return fs_write_file(note, made_of, strlen(made_of), 0644, err);
}

/* All of it beside its place, which it takes when it is complete. */
static int
make_all(int tree, const char *tree_path, const char *programs_dir,
    const char *final, const char *made_of, struct err *err)
{
	_cleanup_(freep)
	char *tmp = xasprintf("%s.new", final);
	int r;

	if ((r = fs_remove_tree(tmp, err)) < 0 ||
	    (r = fs_mkdirs(tmp, 0700, err)) < 0)
		return r;
	/* What fails fast comes first. */
	if ((r = make_boot(tree, programs_dir, tmp, made_of, err)) == 0)
		r = make_disk(tree_path, tmp, err);
	if (r == 0 && rename(tmp, final) < 0)
		r = err_errno(err, ERR_SYSTEM, errno, "rename %s", tmp);
	if (r < 0)
		fs_remove_tree(tmp, NULL);
	return r;
}

int
storage_machine_prepare(const char *data_dir, const char *programs_dir,
    const char *checksum, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/images/trees/%s", data_dir, checksum);
	_cleanup_(freep)
	char *final = storage_machine_dir(data_dir, checksum);
	_cleanup_(freep)
	char *note = xasprintf("%s/made-of", final);
	_cleanup_(freep)
	char *want = NULL;
	_cleanup_(freep)
	char *have = NULL;
	_cleanup_(closep)
	int tree = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (tree < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open %s", path);
	if (storage_disk_is(path))
		return 0;
	if ((r = describe(programs_dir, &want, err)) < 0)
		return r;
	if (!fs_exists(note))
		r = make_all(tree, path, programs_dir, final, want, err);
	else if ((r = fs_read_file(note, 256, &have, NULL, err)) == 0 &&
		 !str_eq(have, want))
		r = make_boot(tree, programs_dir, final, want, err);
	return r < 0 ? err_wrap(err, r, "make a virtual machine of the image")
		     : 0;
}

static void
add_size(const char *dir, uint64_t *bytes)
{
	static const char *const files[] = { "root.erofs", "vmlinuz",
		"initrd.img" };
	struct stat st;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_(freep)
		char *path = xasprintf("%s/%s", dir, files[i]);

		if (lstat(path, &st) == 0)
			*bytes += (uint64_t)st.st_size;
	}
}

struct collecting {
	const char *data_dir;
	bool dry_run;
	uint64_t *bytes;
};

static int
collect_machine(const struct fs_entry *e, void *arg, struct err *err)
{
	const struct collecting *c = arg;
	_cleanup_(freep)
	char *tree = xasprintf("%s/images/trees/%.64s", c->data_dir, e->name);

	if (e->name[0] == '.' || fs_exists(tree))
		return 0;
	add_size(e->path, c->bytes);
	return c->dry_run ? 0 : fs_remove_tree(e->path, err);
}

int
storage_machine_collect(
    const char *data_dir, bool dry_run, uint64_t *ret_bytes, struct err *err)
{
	_cleanup_(freep)
	char *machines = xasprintf("%s/images/machines", data_dir);
	struct collecting c = { data_dir, dry_run, ret_bytes };

	return fs_each_entry(machines, collect_machine, &c, err);
}
