/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whether a stranger's qcow2 file is whole, without what reads disks: one that
 * was cut on its way would be an image whose machines find zeros, or don't
 * start. All that its tables name must begin within the file, which is what
 * `qemu-img check` wants, too. (QEMU: docs/interop/qcow2.txt.)
 */
#include "storage/qcow2.h"

#include <endian.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

#define L1_BYTES_MAX     (32 << 20) /* QEMU's own */
#define CLUSTER_BITS_MIN 9
#define CLUSTER_BITS_MAX 21
#define COMPRESSED       (UINT64_C(1) << 62)
#define OFFSET           UINT64_C(0x00fffffffffffe00)
#define SECTOR           512

struct tables {
	int fd;
	const char *path;
	uint64_t bytes; /* of the file */
	unsigned cluster_bits;
	size_t entry_bytes; /* of the second level */
};

static int
damaged(const struct tables *t, const char *why, struct err *err)
{
	return err_set(err, ERR_IMAGE,
	    "'%s' is cut or damaged: %s; copy it again, or look at it with "
	    "'qemu-img check'",
	    t->path, why);
}

static bool
begins_inside(const struct tables *t, uint64_t entry)
{
	unsigned bits = 62 - (t->cluster_bits - 8);
	uint64_t at = entry & ((UINT64_C(1) << bits) - 1), more;

	if ((entry & COMPRESSED) == 0)
		return (entry & OFFSET) < t->bytes;
	/* Its last sector, too. */
	more = (entry & (COMPRESSED - 1)) >> bits;
	return at < t->bytes && at / SECTOR * SECTOR + more * SECTOR < t->bytes;
}

static bool
read_all(const struct tables *t, void *to, size_t n, uint64_t at)
{
	return at < t->bytes && n <= t->bytes - at &&
	       pread(t->fd, to, n, (off_t)at) == (ssize_t)n;
}

/* buf: of a cluster. */
static int
check_second(
    const struct tables *t, uint64_t at, unsigned char *buf, struct err *err)
{
	size_t cluster = (size_t)1 << t->cluster_bits, i;
	uint64_t entry;

	if (!read_all(t, buf, cluster, at))
		return damaged(t, "one of its tables is beyond its end", err);
	for (i = 0; i < cluster; i += t->entry_bytes) {
		memcpy(&entry, buf + i, sizeof(entry));
		if (!begins_inside(t, be64toh(entry)))
			return damaged(
			    t, "some of its blocks are beyond its end", err);
	}
	return 0;
}

static int
check_first(const struct tables *t, const struct qcow2_head *h, struct err *err)
{
	uint32_t n = be32toh(h->l1_size), i;
	_cleanup_(freep)
	char *first = xcalloc(n, sizeof(uint64_t));
	_cleanup_(freep)
	char *second = xcalloc(1, (size_t)1 << t->cluster_bits);
	const uint64_t *entries = (const uint64_t *)(const void *)first;
	uint64_t at, used = 0;
	int r;

	if (!read_all(t, first, n * sizeof(uint64_t), be64toh(h->l1_offset)))
		return damaged(t, "its first table is beyond its end", err);
	for (i = 0; i < n; i++) {
		if ((at = be64toh(entries[i]) & OFFSET) == 0)
			continue;
		/* No two are one, so there are no more than clusters. */
		if (++used > t->bytes >> t->cluster_bits)
			return damaged(t, "its first table is false", err);
		if ((r = check_second(t, at, (unsigned char *)second, err)) < 0)
			return r;
	}
	return 0;
}

int
qcow2_check(int fd, const char *path, uint64_t bytes,
    const struct qcow2_head *h, struct err *err)
{
	bool extended = be32toh(h->version) >= 3 &&
			(be64toh(h->incompatible) & QCOW2_EXTENDED) != 0;
	struct tables t = { .fd = fd,
		.path = path,
		.bytes = bytes,
		.cluster_bits = be32toh(h->cluster_bits),
		.entry_bytes = extended ? 16 : 8 };
	uint64_t of_one;

	if (t.cluster_bits < CLUSTER_BITS_MIN ||
	    t.cluster_bits > CLUSTER_BITS_MAX)
		return damaged(&t, "its header is false", err);
	/* What a table of the second level maps. */
	of_one = (UINT64_C(1) << (2 * t.cluster_bits)) / t.entry_bytes;
	if (be32toh(h->l1_size) > L1_BYTES_MAX / sizeof(uint64_t) ||
	    be32toh(h->l1_size) < (be64toh(h->size) + of_one - 1) / of_one)
		return damaged(&t, "its first table has a false size", err);
	if (be64toh(h->refcount_offset) >= bytes)
		return damaged(&t, "its counts are beyond its end", err);
	return check_first(&t, h, err);
}
