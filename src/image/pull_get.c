/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Objects from the stream into the store: what is said is compared with what
 * comes, and libostree with the checksum. */
#include <string.h>
#include <zstd.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/pull.h"
#include "image/transfer.h"

#define METADATA_MAX (UINT64_C(16) << 20) /* of one folder */
/* Of content that nobody knows the size of yet: a hard limit on the rest. */
#define PERCENT_OF_BYTES 90

/* One object on its way. */
struct incoming {
	struct pull *p;
	uint64_t left; /* bytes still to come */
	bool ended;    /* the frame is at its end */
};

bool
pull_has(const struct pull *p, int type, const char *sum)
{
	gboolean have = FALSE;

	return ostree_repo_has_object(
		   p->repo, (OstreeObjectType)type, sum, &have, NULL, NULL) &&
	       have;
}

void
pull_progress(struct pull *p, int percent)
{
	_cleanup_(freep)
	char *text = NULL;

	if (percent <= p->percent)
		return;
	p->percent = percent;
	if (p->args->progress == NULL)
		return;
	text = p->total > 0 ? xasprintf("%llu of %llu MB",
				  (unsigned long long)p->done.bytes / 1000000,
				  (unsigned long long)p->total / 1000000)
			    : xstrdup("comparing");
	p->args->progress(percent, text, p->args->arg);
}

/* At most size bytes of the frame; 0: it is at its end. */
static ssize_t
decompress(struct incoming *in, void *buf, size_t size, struct err *err)
{
	ZSTD_outBuffer to = { .dst = buf, .size = size };
	const unsigned char *p;
	size_t n, hint;
	int r;

	while (to.pos == 0 && !in->ended) {
		if ((r = wire_peek(&in->p->wire, &p, &n, err)) < 0)
			return r;
		ZSTD_inBuffer from = { .src = p, .size = n };

		hint = ZSTD_decompressStream(in->p->zstd, &to, &from);
		if (ZSTD_isError(hint))
			return err_set(err, ERR_IMAGE,
			    "the other node serves damaged objects (%s)",
			    ZSTD_getErrorName(hint));
		wire_consume(&in->p->wire, from.pos);
		in->ended = hint == 0;
	}
	return (ssize_t)to.pos;
}

static ssize_t
read_incoming(void *buf, size_t size, void *arg, struct err *err)
{
	struct incoming *in = arg;
	ssize_t n = decompress(in, buf, size, err);

	if (n == 0)
		return err_set(err, ERR_IMAGE,
		    "the other node serves an object that is smaller than it "
		    "says");
	if (n > 0)
		in->left -= (uint64_t)n;
	return n;
}

/* The frame's end, and not a byte more. */
static int
expect_end(struct incoming *in, struct err *err)
{
	char more;
	ssize_t n = decompress(in, &more, 1, err);

	if (n < 0)
		return (int)n;
	if (n > 0 || in->left > 0)
		return err_set(err, ERR_IMAGE,
		    "the other node serves an object that is larger than it "
		    "says");
	return 0;
}

/* Of one that somebody else has brought since it was asked for, libostree
 * reads nothing. */
static int
pass_over(struct incoming *in, struct err *err)
{
	char buf[16384];
	ssize_t n;

	while (in->left > 0) {
		n = read_incoming(buf,
		    in->left < sizeof(buf) ? in->left : sizeof(buf), in, err);
		if (n < 0)
			return (int)n;
	}
	return 0;
}

static int
write_content(struct incoming *in, const struct transfer_want *want,
    uint64_t size, struct err *err)
{
	struct err why = { 0 };
	_cleanup_(image_unref)
	GInputStream *stream = image_stream_new(read_incoming, in, size, &why);
	GError *error = NULL;
	guchar *sum = NULL;
	int r;

	/* libostree checks the sum as it reads: before what may follow. */
	if (!ostree_repo_write_content(
		in->p->repo, want->sum, stream, size, &sum, NULL, &error)) {
		if (err_is_set(&why)) {
			g_clear_error(&error);
			return err_set(err, why.code, "%s", why.msg);
		}
		return image_gerr(err, ERR_IMAGE, error,
		    "the other node serves a wrong object, or it can't be "
		    "stored");
	}
	g_free(sum);
	if (in->left == size && (r = pass_over(in, err)) < 0)
		return r;
	return expect_end(in, err);
}

static bool
is_well_formed(int type, GVariant *v)
{
	if (type == OSTREE_OBJECT_TYPE_COMMIT)
		return ostree_validate_structureof_commit(v, NULL);
	return type == OSTREE_OBJECT_TYPE_DIR_TREE
		   ? ostree_validate_structureof_dirtree(v, NULL)
		   : ostree_validate_structureof_dirmeta(v, NULL);
}

static int
write_metadata(struct incoming *in, const struct transfer_want *want,
    uint64_t size, struct err *err)
{
	const GVariantType *type = want->type == OSTREE_OBJECT_TYPE_COMMIT
				       ? OSTREE_COMMIT_GVARIANT_FORMAT
				   : want->type == OSTREE_OBJECT_TYPE_DIR_TREE
				       ? OSTREE_TREE_GVARIANT_FORMAT
				       : OSTREE_DIRMETA_GVARIANT_FORMAT;
	char *data;
	GVariant *v;
	GError *error = NULL;
	guchar *sum = NULL;
	uint64_t at = 0;
	ssize_t n;
	int r = 0;

	if (size > METADATA_MAX)
		return err_set(err, ERR_TOO_LARGE,
		    "the other node serves a folder of %llu MB",
		    (unsigned long long)size / 1000000);
	data = g_malloc(size + 1);
	for (; at < size; at += (uint64_t)n)
		if ((n = read_incoming(data + at, size - at, in, err)) < 0) {
			g_free(data);
			return (int)n;
		}
	if ((r = expect_end(in, err)) < 0) {
		g_free(data);
		return r;
	}
	v = g_variant_ref_sink(
	    g_variant_new_from_data(type, data, size, FALSE, g_free, data));
	if (!ostree_repo_write_metadata(in->p->repo,
		(OstreeObjectType)want->type, want->sum, v, &sum, NULL, &error))
		r = image_gerr(err, ERR_IMAGE, error,
		    "the other node serves a wrong object, or it can't be "
		    "stored");
	else if (!is_well_formed(want->type, v))
		r = err_set(
		    err, ERR_IMAGE, "object %.12s is malformed", want->sum);
	g_free(sum);
	g_variant_unref(v);
	return r;
}

static int
take_header(struct pull *p, const struct transfer_want *want,
    uint64_t *ret_kind, uint64_t *ret_size, struct err *err)
{
	int r;

	if ((r = wire_read_number(&p->wire, 1, ret_kind, err)) < 0 ||
	    (r = wire_read_number(&p->wire, 8, ret_size, err)) < 0)
		return r;
	if (*ret_kind == WIRE_MISSING)
		return err_set(err, ERR_IMAGE,
		    "the other node has no object %.12s, which is part of the "
		    "image",
		    want->sum);
	if (*ret_kind > WIRE_BASED ||
	    (*ret_kind == WIRE_BASED && want->base[0] == '\0'))
		return err_set(err, ERR_PROTOCOL,
		    "the other node doesn't answer what it was asked");
	if (want->size != WIRE_NONE && want->size != *ret_size)
		return err_set(err, ERR_IMAGE,
		    "the other node serves object %.12s with %llu bytes after "
		    "it said %llu",
		    want->sum, (unsigned long long)*ret_size,
		    (unsigned long long)want->size);
	return 0;
}

static int
take_object(struct pull *p, const struct transfer_want *want, struct err *err)
{
	struct incoming in = { .p = p };
	_cleanup_(freep)
	char *base = NULL;
	uint64_t kind, size;
	size_t base_len = 0;
	int r;

	if ((r = take_header(p, want, &kind, &size, err)) < 0)
		return r;
	if (kind == WIRE_BASED &&
	    (base = transfer_load_base(
		 p->repo, want->type, want->base, &base_len)) == NULL)
		return err_set(err, ERR_IMAGE,
		    "object %.12s of this node's own store can't be read",
		    want->base);
	ZSTD_DCtx_reset(p->zstd, ZSTD_reset_session_only);
	if (base != NULL)
		ZSTD_DCtx_refPrefix(p->zstd, base, base_len);
	in.left = size;
	r = want->type == OSTREE_OBJECT_TYPE_FILE
		? write_content(&in, want, size, err)
		: write_metadata(&in, want, size, err);
	if (r < 0)
		return r;
	p->done.objects++;
	p->done.bytes += size;
	if (p->total > 0)
		pull_progress(
		    p, 5 + (int)(PERCENT_OF_BYTES *
				 ((double)p->done.bytes / (double)p->total)));
	return 0;
}

static int
ask(struct pull *p, enum wire_what what, const struct transfer_want *wants,
    size_t n, struct err *err)
{
	size_t i;
	int r;

	if ((r = wire_write_number(&p->wire, what, 1, err)) < 0 ||
	    (r = wire_write_number(&p->wire, n, 4, err)) < 0)
		return r;
	for (i = 0; i < n; i++) {
		r = wire_write_number(
		    &p->wire, (uint64_t)wants[i].type, 1, err);
		if (r < 0 ||
		    (r = transfer_write_sum(&p->wire, wants[i].sum, err)) < 0 ||
		    (what == WIRE_GET && (r = transfer_write_sum(&p->wire,
					      wants[i].base, err)) < 0))
			return r;
	}
	return wire_flush(&p->wire, err);
}

/* What a killed pull had written of its last batch is here once a transaction
 * has begun. */
static size_t
not_staged(struct pull *p, const struct transfer_want *wants, size_t n,
    struct transfer_want *ret)
{
	size_t i, k = 0;

	for (i = 0; i < n; i++)
		if (!pull_has(p, wants[i].type, wants[i].sum))
			ret[k++] = wants[i];
		else if (wants[i].size != WIRE_NONE)
			p->total -= wants[i].size;
	return k;
}

/* What keeps the objects of a batch is kept already, a folder that names them;
 * of the commit it is the ref that is set now. */
static int
end_batch(struct pull *p, bool is_commit, struct err *err)
{
	const char *data_dir = p->args->data_dir;
	_cleanup_(closep)
	int lock = -1;
	int r;

	if ((r = image_lock(data_dir, IMAGE_LOCK_KEEP, true, &lock, err)) < 0 ||
	    (is_commit && (r = pull_mark(p, true, err)) < 0) ||
	    (r = image_transaction_end(p->repo, data_dir, err)) < 0)
		return r;
	return is_commit ? pull_keep_commit(p, err) : 0;
}

static int
get_batch(
    struct pull *p, const struct transfer_want *all, size_t n, struct err *err)
{
	_cleanup_(freep)
	struct transfer_want *wants = xcalloc(n, sizeof(*wants));
	GError *error = NULL;
	size_t i;
	int r;

	if (!ostree_repo_prepare_transaction(p->repo, NULL, NULL, &error))
		return image_gerr(
		    err, ERR_SYSTEM, error, "begin a transaction");
	n = not_staged(p, all, n, wants);
	r = n == 0 ? 0 : ask(p, WIRE_GET, wants, n, err);
	for (i = 0; r == 0 && i < n; i++)
		r = take_object(p, &wants[i], err);
	if (r == 0)
		r = end_batch(p, all[0].type == OSTREE_OBJECT_TYPE_COMMIT, err);
	if (r < 0)
		ostree_repo_abort_transaction(p->repo, NULL, NULL);
	return r;
}

/* Each batch is on the disk for good before the next one. */
int
pull_get(struct pull *p, const struct transfer_want *wants, size_t n,
    struct err *err)
{
	static const uint64_t batch_bytes = 16 << 20;
	static const size_t batch_objects = 1000;
	uint64_t bytes;
	size_t i, k;
	int r = 0;

	for (i = 0; r == 0 && i < n; i += k) {
		for (k = 0, bytes = 0;
		     i + k < n && k < batch_objects && bytes < batch_bytes; k++)
			bytes += wants[i + k].size == WIRE_NONE
				     ? 0
				     : wants[i + k].size;
		r = get_batch(p, wants + i, k, err);
	}
	return r;
}

int
pull_sizes(
    struct pull *p, struct transfer_want *wants, size_t n, struct err *err)
{
	size_t i, k, j;
	int r;

	for (i = 0; i < n; i += k) {
		k = n - i < WIRE_ASKED_MAX ? n - i : WIRE_ASKED_MAX;
		if ((r = ask(p, WIRE_SIZES, wants + i, k, err)) < 0)
			return r;
		for (j = i; j < i + k; j++) {
			r = wire_read_number(&p->wire, 8, &wants[j].size, err);
			if (r < 0)
				return r;
			if (wants[j].size > IMAGE_BYTES_MAX)
				return err_set(err, ERR_IMAGE,
				    "the other node has no object %.12s, which "
				    "is part of the image",
				    wants[j].sum);
		}
	}
	return 0;
}
