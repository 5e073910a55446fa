/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What both ends of a transfer must do alike: serve.c, pull.c, pull_get.c.
 * Only in qvd-hkd-image and tests.
 */
#ifndef IMAGE_TRANSFER_H
#define IMAGE_TRANSFER_H

#include <ostree.h>

#include "image/image_priv.h"
#include "image/pull.h"
#include "image/wire.h"

struct transfer_want {
	char sum[IMAGE_CHECKSUM_LEN + 1];
	char base[IMAGE_CHECKSUM_LEN + 1]; /* "": no dictionary */
	int type;                          /* OstreeObjectType */
	uint64_t size;                     /* as was said; WIRE_NONE: unsaid */
};

/* 32 bytes and the digits of them; zeros are "". */
int transfer_read_sum(struct wire *w, char *ret, struct err *err);
int transfer_write_sum(struct wire *w, const char *sum, struct err *err);
/* An object's bytes as a dictionary; NULL: there is none that may be one. */
char *transfer_load_base(
    OstreeRepo *repo, int type, const char *sum, size_t *ret_len);
int transfer_window_log(uint64_t bytes);
/* The "ay" that is kept beside a commit; NULL: it isn't signed. */
GVariant *transfer_signature(OstreeRepo *repo, const char *checksum);
int transfer_keep_signature(OstreeRepo *repo, const char *checksum,
    const void *signature, size_t len, struct err *err);

/* pull_get.c */
struct pull {
	const struct image_pull *args;
	OstreeRepo *repo;
	GHashTable *seen;  /* trees that are known: checksums */
	GHashTable *metas; /* the same of their facts */
	GHashTable *files; /* contents to be asked for: checksum -> base */
	void *zstd;        /* ZSTD_DCtx */
	struct image_pulled done;
	unsigned char signature[IMAGE_SIGNATURE_LEN];
	size_t signature_len; /* 0: it isn't signed */
	uint64_t entries, total;
	int percent;
	struct wire wire;
};
/* All of them are in the store afterwards. size: must be what comes. */
int pull_get(struct pull *p, const struct transfer_want *wants, size_t n,
    struct err *err);
int pull_sizes(
    struct pull *p, struct transfer_want *wants, size_t n, struct err *err);
/* pull.c: the image is here in part only, and nobody takes it for whole. */
int pull_mark(struct pull *p, bool partial, struct err *err);
/* Keeps the commit, which is here, by the image's ref; and its signature. The
 * caller has IMAGE_LOCK_KEEP since before that was so. */
int pull_keep_commit(struct pull *p, struct err *err);
bool pull_has(const struct pull *p, int type, const char *sum);
void pull_progress(struct pull *p, int percent);

#endif
