/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A commit of what was changed in a machine: only its own kernel reads the
 * file system that the guest has had in its hands, in a machine that is started
 * for this alone and has no network. What it finds goes to the node as a tar on
 * the disk `pack`: the overlay's upper directory as it is, a whiteout as the
 * character device 0:0, an opaque directory with the attribute that says so. A
 * directory that was moved comes whole, from the merged tree.
 *
 * The disk's last sector, BOOT_PACK_MARK and the tar's length, is written last:
 * what has none is not complete. The node takes all of it for a stranger's
 * archive (image/archive.c).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "boot/boot.h"

#define SECTOR      512
#define BUFFER      (1024 * 1024)
#define PAX_MAX     (256 * 1024)
#define OVERLAY     "trusted.overlay."
#define OPAQUE      OVERLAY "opaque"
#define REDIRECT    OVERLAY "redirect"
#define NUMBER7_MAX 07777777     /* of an owner in the header itself */
#define SIZE11_MAX  077777777777 /* of a size */

/* POSIX.1-1988 (ustar). */
struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8];
	char type, target[100], magic[6], version[2], user[32], group[32];
	char major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == SECTOR, "as in the standard");

static struct {
	int fd;
	uint64_t at;         /* bytes of the tar that are on the disk */
	size_t n;            /* and in the buffer */
	char path[PATH_MAX]; /* of the entry, without a slash before it */
	size_t pax_n;
	char pax[PAX_MAX]; /* what the header has no room for */
	char buf[BUFFER];
} out;

static void
write_at(const void *data, size_t n, uint64_t at)
{
	const char *p = data;
	ssize_t done;

	while (n > 0) {
		done = pwrite(out.fd, p, n, (off_t)at);
		if (done <= 0)
			boot_fail("write to the node's disk");
		p += done;
		at += (uint64_t)done;
		n -= (size_t)done;
	}
}

static void
flush(void)
{
	write_at(out.buf, out.n, out.at);
	out.at += out.n;
	out.n = 0;
}

static void
put(const void *data, size_t n)
{
	const char *p = data;
	size_t some;

	while (n > 0) {
		some = n < BUFFER - out.n ? n : BUFFER - out.n;
		memcpy(out.buf + out.n, p, some);
		out.n += some;
		p += some;
		n -= some;
		if (out.n == BUFFER)
			flush();
	}
}

static void
put_padding(uint64_t size)
{
	static const char zeros[SECTOR];

	put(zeros, (SECTOR - size % SECTOR) % SECTOR);
}

/* "LEN key=value\n", where LEN counts itself, too. */
static void
add_pax(const char *key, const void *value, size_t size)
{
	size_t len = strlen(key) + size + 3, total = len;
	char number[24];
	int digits;

	do {
		digits = snprintf(number, sizeof(number), "%zu", total);
		total = len + (size_t)digits;
	} while (snprintf(number, sizeof(number), "%zu", total) != digits);
	if (total > PAX_MAX - out.pax_n) {
		errno = E2BIG;
		boot_fail(out.path);
	}
	out.pax_n += (size_t)snprintf(
	    out.pax + out.pax_n, PAX_MAX - out.pax_n, "%s %s=", number, key);
	memcpy(out.pax + out.pax_n, value, size);
	out.pax_n += size;
	out.pax[out.pax_n++] = '\n';
}

static void
add_number(
    char *field, size_t size, uint64_t value, uint64_t max, const char *key)
{
	char text[24];

	if (value > max) {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
		add_pax(key, text, strlen(text));
		value = 0;
	}
	snprintf(text, sizeof(text), "%0*llo", (int)size - 1,
	    (unsigned long long)value);
	memcpy(field, text, size);
}

static void
add_text(char *field, size_t size, const char *text, const char *key)
{
	size_t n = strlen(text);

	if (n > size)
		add_pax(key, text, n);
	memcpy(field, text, n < size ? n : size);
}

static void
put_header(struct header *h)
{
	unsigned sum = 0;
	char text[8];
	size_t i;

	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	memset(h->sum, ' ', sizeof(h->sum));
	for (i = 0; i < sizeof(*h); i++)
		sum += ((const unsigned char *)h)[i];
	snprintf(text, sizeof(text), "%06o", sum);
	memcpy(h->sum, text, 7);
	put(h, sizeof(*h));
}

static void
put_entry(const struct stat *st, char type, const char *target)
{
	struct header h = { .type = type }, x = { .type = 'x' };

	add_text(h.name, sizeof(h.name), out.path, "path");
	add_text(h.target, sizeof(h.target), target, "linkpath");
	add_number(
	    h.mode, sizeof(h.mode), st->st_mode & 07777, NUMBER7_MAX, "mode");
	add_number(h.uid, sizeof(h.uid), st->st_uid, NUMBER7_MAX, "uid");
	add_number(h.gid, sizeof(h.gid), st->st_gid, NUMBER7_MAX, "gid");
	add_number(h.size, sizeof(h.size),
	    type == '0' ? (uint64_t)st->st_size : 0, SIZE11_MAX, "size");
	/* A whiteout is the only device. */
	add_number(h.major, sizeof(h.major), 0, NUMBER7_MAX, "major");
	add_number(h.minor, sizeof(h.minor), 0, NUMBER7_MAX, "minor");
	/* Times are no part of an image. */
	add_number(h.mtime, sizeof(h.mtime), 0, SIZE11_MAX, "mtime");
	if (out.pax_n > 0) {
		memcpy(x.name, "pax", 3);
		add_number(
		    x.size, sizeof(x.size), out.pax_n, SIZE11_MAX, "size");
		put_header(&x);
		put(out.pax, out.pax_n);
		put_padding(out.pax_n);
		out.pax_n = 0;
	}
	put_header(&h);
}

/* Of overlayfs's own attributes the one that matters to who has only these
 * changes. */
static void
add_xattrs(int fd, bool opaque)
{
	static char names[64 * 1024], value[64 * 1024], key[320];
	ssize_t n = flistxattr(fd, names, sizeof(names)), len;
	const char *p;

	if (opaque)
		add_pax("SCHILY.xattr." OPAQUE, "y", 1);
	if (n < 0)
		boot_fail(out.path);
	for (p = names; p < names + n; p += strlen(p) + 1) {
		if (strncmp(p, OVERLAY, sizeof(OVERLAY) - 1) == 0)
			continue;
		if ((len = fgetxattr(fd, p, value, sizeof(value))) < 0)
			boot_fail(out.path);
		/* A name with this sign can't be told by a tar. */
		if (strchr(p, '=') != NULL ||
		    (size_t)snprintf(key, sizeof(key), "SCHILY.xattr.%.*s",
			(int)sizeof(key), p) >= sizeof(key)) {
			errno = EINVAL;
			boot_fail(out.path);
		}
		add_pax(key, value, (size_t)len);
	}
}

static bool
has_xattr(int fd, const char *name, const char *want)
{
	char value[8] = "";
	ssize_t n = fgetxattr(fd, name, value, sizeof(value) - 1);

	/* One that is longer is there as well. */
	if (want == NULL)
		return n >= 0 || errno == ERANGE;
	return n >= 0 && strcmp(value, want) == 0;
}

static void
pack_file(int fd, const struct stat *st)
{
	static char chunk[256 * 1024];
	uint64_t left = (uint64_t)st->st_size;
	ssize_t n;

	add_xattrs(fd, false);
	put_entry(st, '0', "");
	while (left > 0) {
		n = read(
		    fd, chunk, left < sizeof(chunk) ? left : sizeof(chunk));
		if (n == 0)
			errno = EIO;
		if (n <= 0)
			boot_fail(out.path);
		put(chunk, (size_t)n);
		left -= (uint64_t)n;
	}
	put_padding((uint64_t)st->st_size);
}

static void pack_children(int dir, bool merged);

/* merged: it is seen through the overlay, which has no whiteouts. */
static void
pack_dir(int fd, const struct stat *st, bool merged)
{
	bool moved = !merged && has_xattr(fd, REDIRECT, NULL);
	char at[sizeof(BOOT_ROOT) + PATH_MAX];
	int whole;

	add_xattrs(fd, moved || (!merged && has_xattr(fd, OPAQUE, "y")));
	put_entry(st, '5', "");
	if (!moved) {
		pack_children(fd, merged);
		return;
	}
	/* Below it is also what lies in the image at another place. */
	snprintf(at, sizeof(at), BOOT_ROOT "/%s", out.path);
	whole = open(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (whole < 0)
		boot_fail(out.path);
	pack_children(whole, true);
	close(whole);
}

static void
pack_link(int dir, const char *name, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	if (n < 0)
		boot_fail(out.path);
	target[n] = '\0';
	put_entry(st, '2', target);
}

static void
pack_one(int dir, const char *name, bool merged)
{
	const struct stat nothing = { .st_mode = S_IFCHR };
	struct stat st;
	int fd;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		boot_fail(out.path);
	if (S_ISLNK(st.st_mode)) {
		pack_link(dir, name, &st);
		return;
	}
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		/* No image has devices, pipes and sockets; but one that is
		 * where the image has a file took its place. */
		if (!merged)
			put_entry(&nothing, '3', "");
		return;
	}
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		boot_fail(out.path);
	if (S_ISREG(st.st_mode))
		pack_file(fd, &st);
	else
		pack_dir(fd, &st, merged);
	close(fd);
}

/* What the directory is called is in out.path. */
static void
pack_children(int dir, bool merged)
{
	size_t len = strlen(out.path);
	DIR *d = fdopendir(dup(dir));
	const struct dirent *e;

	if (d == NULL)
		boot_fail(out.path);
	while (errno = 0, (e = readdir(d)) != NULL) {
		size_t n = strlen(e->d_name);

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (len + n + 2 > sizeof(out.path)) {
			errno = ENAMETOOLONG;
			boot_fail(out.path);
		}
		if (len > 0)
			out.path[len] = '/';
		memcpy(out.path + len + (len > 0), e->d_name, n + 1);
		pack_one(dir, e->d_name, merged);
		out.path[len] = '\0';
	}
	if (errno != 0)
		boot_fail(out.path);
	closedir(d);
}

/* Says that it is complete, once it is. */
static void
put_mark(void)
{
	char mark[SECTOR] = BOOT_PACK_MARK;
	uint64_t bytes = 0;
	int i;

	for (i = 0; i < 8; i++)
		mark[8 + i] = (char)(out.at >> (8 * i));
	if (ioctl(out.fd, BLKGETSIZE64, &bytes) < 0 || fsync(out.fd) < 0)
		boot_fail("write to the node's disk");
	if (out.at + SECTOR > bytes) {
		errno = ENOSPC;
		boot_fail("write to the node's disk");
	}
	write_at(mark, sizeof(mark), bytes - SECTOR);
	if (fsync(out.fd) < 0)
		boot_fail("write to the node's disk");
}

void
boot_pack(void)
{
	static const char end[2 * SECTOR];
	int dir;

	boot_show_changes();
	out.fd = boot_open_disk("pack");
	dir = open(BOOT_CHANGES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		boot_fail(BOOT_CHANGES);
	pack_children(dir, false);
	put(end, sizeof(end));
	flush();
	put_mark();
	boot_say("the changes are packed");
}
