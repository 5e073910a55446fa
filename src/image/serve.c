/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The serving end: objects of one image, compressed. */
#include <string.h>
#include <zstd.h>

#include "base/mem.h"
#include "image/image_priv.h"
#include "image/pull.h"
#include "image/transfer.h"
#include "image/wire.h"

#define IDLE_MS (10 * 60 * 1000) /* the other end writes to its disk */
/* Smaller than gzip -9, at more than what a network card takes. */
#define LEVEL 6

struct serve {
	OstreeRepo *repo;
	GHashTable *objects; /* names of what the image consists of */
	ZSTD_CCtx *zstd;
	struct wire wire;
};

static bool
may_have(const struct serve *s, int type, const char *sum)
{
	GVariant *name = g_variant_ref_sink(
	    ostree_object_name_serialize(sum, (OstreeObjectType)type));
	bool found = g_hash_table_contains(s->objects, name);

	g_variant_unref(name);
	return found;
}

/* Its bytes; NULL: it isn't of the image, or isn't there. */
static GInputStream *
open_object(struct serve *s, int type, const char *sum, guint64 *ret_size)
{
	GInputStream *in = NULL;

	if (!may_have(s, type, sum) ||
	    !ostree_repo_load_object_stream(s->repo, (OstreeObjectType)type,
		sum, &in, ret_size, NULL, NULL))
		return NULL;
	return in;
}

static int
read_entry(struct serve *s, uint64_t *ret_type, char *ret_sum, struct err *err)
{
	int r;

	if ((r = wire_read_number(&s->wire, 1, ret_type, err)) < 0)
		return r;
	if (*ret_type < OSTREE_OBJECT_TYPE_FILE ||
	    *ret_type > OSTREE_OBJECT_TYPE_COMMIT)
		return err_set(err, ERR_PROTOCOL, "no type of object");
	return transfer_read_sum(&s->wire, ret_sum, err);
}

static int
answer_size(struct serve *s, const struct transfer_want *want, struct err *err)
{
	guint64 size = WIRE_NONE;
	GInputStream *in = open_object(s, want->type, want->sum, &size);

	if (in == NULL)
		size = WIRE_NONE;
	g_clear_object(&in);
	return wire_write_number(&s->wire, size, 8, err);
}

/* The rest of a frame, or all of it at once. */
static int
compress(
    struct serve *s, const void *data, size_t n, bool last, struct err *err)
{
	char out[16 * 1024];
	ZSTD_inBuffer from = { .src = data, .size = n };
	size_t left;
	int r;

	do {
		ZSTD_outBuffer to = { .dst = out, .size = sizeof(out) };

		left = ZSTD_compressStream2(
		    s->zstd, &to, &from, last ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(left))
			return err_set(err, ERR_INTERNAL, "compress: %s",
			    ZSTD_getErrorName(left));
		if ((r = wire_write(&s->wire, out, to.pos, err)) < 0)
			return r;
	} while (last ? left > 0 : from.pos < from.size);
	return 0;
}

static int
send_frame(struct serve *s, GInputStream *in, guint64 size, struct err *err)
{
	char buf[32 * 1024];
	GError *error = NULL;
	guint64 sent = 0;
	gssize n;
	int r;

	while (
	    (n = g_input_stream_read(in, buf, sizeof(buf), NULL, &error)) > 0) {
		sent += (guint64)n;
		if ((r = compress(s, buf, (size_t)n, false, err)) < 0)
			return r;
	}
	if (n < 0)
		return image_gerr(err, ERR_SYSTEM, error, "read an object");
	if (sent != size)
		return err_set(
		    err, ERR_IMAGE, "an object isn't as large as it should be");
	return compress(s, buf, 0, true, err);
}

static int
answer_object(
    struct serve *s, const struct transfer_want *want, struct err *err)
{
	_cleanup_(image_unref)
	GInputStream *in = NULL;
	_cleanup_(freep)
	char *base = NULL;
	guint64 size = 0;
	size_t base_len = 0;
	int r;

	in = open_object(s, want->type, want->sum, &size);
	if (in == NULL) {
		if ((r = wire_write_number(&s->wire, WIRE_MISSING, 1, err)) < 0)
			return r;
		return wire_write_number(&s->wire, 0, 8, err);
	}
	if (want->base[0] != '\0' && size <= WIRE_BASE_MAX)
		base = transfer_load_base(
		    s->repo, want->type, want->base, &base_len);
	ZSTD_CCtx_reset(s->zstd, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(s->zstd, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setPledgedSrcSize(s->zstd, size);
	if (base != NULL) {
		ZSTD_CCtx_setParameter(s->zstd, ZSTD_c_windowLog,
		    transfer_window_log(base_len + size));
		ZSTD_CCtx_refPrefix(s->zstd, base, base_len);
	}
	if ((r = wire_write_number(&s->wire,
		 base != NULL ? WIRE_BASED : WIRE_PLAIN, 1, err)) < 0 ||
	    (r = wire_write_number(&s->wire, size, 8, err)) < 0)
		return r;
	return send_frame(s, in, size, err);
}

/* All of the question first: its asker reads nothing before it has asked. */
static int
answer_all(struct serve *s, enum wire_what what, uint64_t n, struct err *err)
{
	_cleanup_(freep)
	struct transfer_want *wants = xcalloc(n + 1, sizeof(*wants));
	uint64_t type;
	size_t i;
	int r = 0;

	for (i = 0; i < n; i++) {
		if ((r = read_entry(s, &type, wants[i].sum, err)) < 0 ||
		    (what == WIRE_GET && (r = transfer_read_sum(&s->wire,
					      wants[i].base, err)) < 0))
			return r;
		wants[i].type = (int)type;
	}
	for (i = 0; r == 0 && i < n; i++)
		r = what == WIRE_GET ? answer_object(s, &wants[i], err)
				     : answer_size(s, &wants[i], err);
	return r < 0 ? r : wire_flush(&s->wire, err);
}

static int
answer_signature(struct serve *s, const char *checksum, struct err *err)
{
	GVariant *signature = transfer_signature(s->repo, checksum);
	gsize n = 0;
	const void *data = NULL;
	int r;

	if (signature != NULL)
		data = g_variant_get_fixed_array(signature, &n, 1);
	r = wire_write_number(&s->wire, n, 4, err);
	if (r == 0 && n > 0)
		r = wire_write(&s->wire, data, n, err);
	if (signature != NULL)
		g_variant_unref(signature);
	return r < 0 ? r : wire_flush(&s->wire, err);
}

static int
answer(struct serve *s, const char *checksum, struct err *err)
{
	uint64_t what, n;
	int r;

	if ((r = wire_read_number(&s->wire, 1, &what, err)) < 0 ||
	    (r = wire_read_number(&s->wire, 4, &n, err)) < 0)
		return r;
	if (n > WIRE_ASKED_MAX)
		return err_set(err, ERR_PROTOCOL,
		    "the other node asks for %llu objects at once",
		    (unsigned long long)n);
	if (what == WIRE_SIGNATURE && n == 0)
		return answer_signature(s, checksum, err);
	if (what != WIRE_SIZES && what != WIRE_GET)
		return err_set(err, ERR_PROTOCOL, "no question");
	return answer_all(s, (enum wire_what)what, n, err);
}

static int
open_image(struct serve *s, const char *data_dir, const char *checksum,
    struct err *err)
{
	GError *error = NULL;
	int r;

	if ((r = image_repo_open(data_dir, &s->repo, err)) < 0 ||
	    (r = image_has_commit(s->repo, checksum, err)) < 0)
		return r;
	if (!ostree_repo_traverse_commit(
		s->repo, checksum, 0, &s->objects, NULL, &error))
		return image_gerr(
		    err, ERR_IMAGE, error, "read image %.12s", checksum);
	return 0;
}

static int
refuse(struct serve *s, const struct err *err)
{
	size_t n = strnlen(err->msg, WIRE_TEXT_MAX);

	wire_write_number(&s->wire, 1, 1, NULL);
	wire_write_number(&s->wire, n, 2, NULL);
	wire_write(&s->wire, err->msg, n, NULL);
	wire_flush(&s->wire, NULL);
	return -(int)err->code;
}

int
image_serve(const char *data_dir, const char *checksum, int fd, struct err *err)
{
	struct serve *s = new0(struct serve);
	int r;

	wire_init(&s->wire, fd, IDLE_MS, 0);
	s->zstd = ZSTD_createCCtx();
	if ((r = open_image(s, data_dir, checksum, err)) < 0)
		refuse(s, err);
	else if ((r = wire_write_number(&s->wire, 0, 1, err)) == 0)
		r = wire_flush(&s->wire, err);
	while (r == 0 && (r = wire_at_end(&s->wire, err)) == 0)
		r = answer(s, checksum, err);
	ZSTD_freeCCtx(s->zstd);
	if (s->objects != NULL)
		g_hash_table_unref(s->objects);
	g_clear_object(&s->repo);
	free(s);
	return r < 0 ? r : 0;
}
