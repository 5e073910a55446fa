/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An initial RAM disk (cpio, the kernel's Documentation/driver-api/early-
 * userspace/buffer-format.rst): qvd-boot as /init, the agent, and of the
 * image's own kernel the modules without which it would find no disk. Their
 * names say in which order they are loaded.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "storage/machine.h"

#define INDEX_MAX   (8 << 20) /* modules.dep, modules.builtin */
#define FILE_MAX    (64 << 20)
#define MODULES_MAX 100

/* Must be there, as a module or in the kernel itself. */
static const char *const needed[] = { "virtio_pci", "virtio_blk", "virtio_net",
	"erofs", "overlay", "ext4", "qemu_fw_cfg" };
/* Serve where they are: a microvm's bus, power button, memory, numbers. */
static const char *const useful[] = { "virtio_mmio", "button", "evdev",
	"virtio_balloon", "virtio_rng", "bochs", "virtio_input" };

struct initrd {
	int tree;
	const char *kernel;
	FILE *out;
	unsigned inode;
	char *dep; /* modules.dep: "a.ko: b.ko c.ko\n" */
	char *builtin;
	char *done[MODULES_MAX]; /* paths below lib/modules/<kernel> */
	int n_done;
};

static void
pad(FILE *out, size_t len)
{
	static const char zero[4];

	fwrite(zero, 1, (4 - len % 4) % 4, out);
}

static void
put_header(struct initrd *rd, const char *name, mode_t mode, size_t size)
{
	size_t len = strlen(name) + 1;

	/* magic, inode, mode, uid, gid, links, mtime, size, two devices,
	 * length of the name, no sum */
	fprintf(rd->out,
	    "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
	    ++rd->inode, (unsigned)mode, 0, 0, 1, 0, (unsigned)size, 0, 0, 0, 0,
	    (unsigned)len, 0);
	fwrite(name, 1, len, rd->out);
	pad(rd->out, 110 + len);
}

static int
put_file(
    struct initrd *rd, const char *name, mode_t mode, int fd, struct err *err)
{
	struct stat st;
	char chunk[65536];
	off_t left;
	ssize_t n;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		return err_set(err, ERR_IMAGE,
		    "%s is no file of at most %d MiB", name, FILE_MAX >> 20);
	put_header(rd, name, S_IFREG | mode, (size_t)st.st_size);
	for (left = st.st_size; left > 0; left -= n) {
		size_t want =
		    left < (off_t)sizeof(chunk) ? (size_t)left : sizeof(chunk);

		if ((n = read(fd, chunk, want)) <= 0)
			return err_errno(err, ERR_SYSTEM, n < 0 ? errno : EIO,
			    "read %s", name);
		fwrite(chunk, 1, (size_t)n, rd->out);
	}
	pad(rd->out, (size_t)st.st_size);
	return 0;
}

static int
put_program(struct initrd *rd, const char *name, const char *programs_dir,
    const char *program, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", programs_dir, program);
	_cleanup_(closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, ERR_CONFIG, errno, "open %s", path);
	return put_file(rd, name, 0755, fd, err);
}

static char *
module_path(const struct initrd *rd, const char *name)
{
	return xasprintf("lib/modules/%s/%s", rd->kernel, name);
}

static int
read_index(
    const struct initrd *rd, const char *name, char **ret, struct err *err)
{
	_cleanup_(freep)
	char *path = module_path(rd, name);
	_cleanup_(closep)
	int fd = machine_open(rd->tree, path, O_RDONLY);
	_cleanup_(freep)
	char *text = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, ERR_IMAGE, errno,
		    "open the image's %s (run 'depmod %s' in it)", path,
		    rd->kernel);
	if (!S_ISREG(st.st_mode) || st.st_size > INDEX_MAX)
		return err_set(
		    err, ERR_IMAGE, "the image's %s is no index", path);
	text = xcalloc((size_t)st.st_size + 1, 1);
	if ((n = pread(fd, text, (size_t)st.st_size, 0)) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "read %s", path);
	*ret = take_ptr(text);
	return 0;
}

/* "kernel/fs/erofs/erofs.ko.xz" is "erofs"; '-' and '_' are one. */
static bool
is_module(const char *path, size_t len, const char *name)
{
	const char *slash = memrchr(path, '/', len);
	const char *p = slash != NULL ? slash + 1 : path, *end = path + len;

	for (; *name != '\0' && p < end; name++, p++)
		if (*p != *name && !(*p == '-' && *name == '_'))
			return false;
	return *name == '\0' && end - p >= 3 && strncmp(p, ".ko", 3) == 0;
}

/* The line of the index whose first word is that module. NULL: none. */
static const char *
find_line(const char *index, const char *name)
{
	const char *line = index, *nl;

	while (*line != '\0') {
		if (is_module(line, strcspn(line, ": \n"), name))
			return line;
		nl = strchr(line, '\n');
		if (nl == NULL)
			break;
		line = nl + 1;
	}
	return NULL;
}

static int
put_module(struct initrd *rd, const char *word, size_t len, struct err *err)
{
	_cleanup_(freep)
	char *name = xstrndup(word, len);
	_cleanup_(freep)
	char *path = module_path(rd, name);
	_cleanup_(closep)
	int fd = -1;
	const char *slash = strrchr(name, '/');
	char as[160];
	int i;

	for (i = 0; i < rd->n_done; i++)
		if (str_eq(rd->done[i], name))
			return 0;
	if (rd->n_done == MODULES_MAX || !str_is_text(name, sizeof(as) - 40))
		return err_set(err, ERR_IMAGE,
		    "the image's modules.dep of kernel %s makes no sense",
		    rd->kernel);
	if ((fd = machine_open(rd->tree, path, O_RDONLY)) < 0)
		return err_errno(
		    err, ERR_IMAGE, errno, "open the image's %s", path);
	snprintf(as, sizeof(as), "modules/%03d-%s", rd->n_done,
	    slash != NULL ? slash + 1 : name);
	rd->done[rd->n_done++] = take_ptr(name);
	return put_file(rd, as, 0644, fd, err);
}

/* A line names all that a module needs, what comes last first. */
static int
put_line(struct initrd *rd, const char *line, struct err *err)
{
	size_t first = strcspn(line, ":\n");
	const char *end = line + strcspn(line, "\n"), *p = end, *start;
	int r;

	for (; p > line + first; p = start) {
		while (p > line + first && (p[-1] == ' ' || p[-1] == ':'))
			p--;
		if (p <= line + first)
			break;
		for (start = p; start[-1] != ' ' && start[-1] != ':';)
			start--;
		if ((r = put_module(rd, start, (size_t)(p - start), err)) < 0)
			return r;
	}
	return put_module(rd, line, first, err);
}

static int
put_modules(struct initrd *rd, struct err *err)
{
	const char *line;
	size_t i;
	int r;

	put_header(rd, "modules", S_IFDIR | 0755, 0);
	for (i = 0; i < ARRAY_SIZE(needed) + ARRAY_SIZE(useful); i++) {
		bool must = i < ARRAY_SIZE(needed);
		const char *name =
		    must ? needed[i] : useful[i - ARRAY_SIZE(needed)];

		line = find_line(rd->dep, name);
		if (line != NULL && (r = put_line(rd, line, err)) < 0)
			return r;
		if (line == NULL && must &&
		    find_line(rd->builtin, name) == NULL)
			return err_set(err, ERR_IMAGE,
			    "the image's kernel %s has no driver %s: install "
			    "another (Debian: linux-image-cloud-amd64)",
			    rd->kernel, name);
	}
	return 0;
}

static int
put_all(struct initrd *rd, const char *programs_dir, struct err *err)
{
	int r;

	if ((r = read_index(rd, "modules.dep", &rd->dep, err)) < 0 ||
	    (r = read_index(rd, "modules.builtin", &rd->builtin, err)) < 0 ||
	    (r = put_program(rd, "init", programs_dir, "qvd-boot", err)) < 0 ||
	    (r = put_program(rd, "qvd-vma", programs_dir, "qvd-vma", err)) <
		0 ||
	    (r = put_modules(rd, err)) < 0)
		return r;
	put_header(rd, "TRAILER!!!", 0, 0);
	return 0;
}

int
initrd_write(int tree_fd, const char *kernel, const char *programs_dir,
    const char *path, struct err *err)
{
	struct initrd rd = { .tree = tree_fd, .kernel = kernel };
	_cleanup_(fclosep)
	FILE *out = fopen(path, "we");
	int r;

	if (out == NULL)
		return err_errno(err, ERR_SYSTEM, errno, "make %s", path);
	rd.out = out;
	r = put_all(&rd, programs_dir, err);
	while (rd.n_done > 0)
		free(rd.done[--rd.n_done]);
	free(rd.dep);
	free(rd.builtin);
	/* Whatever was written before: stdio remembers what failed. */
	if (r == 0 && (fflush(out) != 0 || ferror(out) || fsync(fileno(out))))
		r = err_errno(err, errno == ENOSPC ? ERR_NO_SPACE : ERR_SYSTEM,
		    errno, "write %s", path);
	return r;
}
