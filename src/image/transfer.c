/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "image/transfer.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/pull.h"

#define SIGNATURE_KEY "qvd.signature"

int
transfer_read_sum(struct wire *w, char *ret, struct err *err)
{
	static const unsigned char zeros[WIRE_SUM];
	unsigned char sum[WIRE_SUM];
	int r;

	if ((r = wire_read(w, sum, sizeof(sum), err)) < 0)
		return r;
	if (memcmp(sum, zeros, sizeof(sum)) == 0)
		ret[0] = '\0';
	else
		str_hex(ret, sum, sizeof(sum));
	return 0;
}

int
transfer_write_sum(struct wire *w, const char *sum, struct err *err)
{
	unsigned char bytes[WIRE_SUM] = { 0 };

	if (sum[0] != '\0')
		ostree_checksum_inplace_to_bytes(sum, bytes);
	return wire_write(w, bytes, sizeof(bytes), err);
}

char *
transfer_load_base(OstreeRepo *repo, int type, const char *sum, size_t *ret_len)
{
	_cleanup_(image_unref)
	GInputStream *in = NULL;
	_cleanup_(freep)
	char *data = NULL;
	guint64 size = 0;
	gsize n = 0;

	if (!ostree_repo_load_object_stream(
		repo, (OstreeObjectType)type, sum, &in, &size, NULL, NULL) ||
	    size > WIRE_BASE_MAX)
		return NULL;
	data = xcalloc(size + 1, 1);
	if (!g_input_stream_read_all(in, data, size, &n, NULL, NULL) ||
	    n != size)
		return NULL;
	*ret_len = n;
	return take_ptr(data);
}

int
transfer_window_log(uint64_t bytes)
{
	int log = 17;

	while (log < WIRE_WINDOW_LOG && (UINT64_C(1) << log) < bytes)
		log++;
	return log;
}

GVariant *
transfer_signature(OstreeRepo *repo, const char *checksum)
{
	GVariant *facts = NULL, *signature;

	if (!ostree_repo_read_commit_detached_metadata(
		repo, checksum, &facts, NULL, NULL) ||
	    facts == NULL)
		return NULL;
	signature = g_variant_lookup_value(
	    facts, SIGNATURE_KEY, G_VARIANT_TYPE_BYTESTRING);
	g_variant_unref(facts);
	return signature;
}

int
transfer_keep_signature(OstreeRepo *repo, const char *checksum,
    const void *signature, size_t len, struct err *err)
{
	GVariantDict dict;
	GVariant *facts;
	GError *error = NULL;
	gboolean ok;

	g_variant_dict_init(&dict, NULL);
	g_variant_dict_insert_value(&dict, SIGNATURE_KEY,
	    g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, signature, len, 1));
	facts = g_variant_ref_sink(g_variant_dict_end(&dict));
	ok = ostree_repo_write_commit_detached_metadata(
	    repo, checksum, facts, NULL, &error);
	g_variant_unref(facts);
	return ok ? 0
		  : image_gerr(err, ERR_SYSTEM, error,
			"keep the signature of image %.12s", checksum);
}

int
image_store_sign(const char *data_dir, const char *private_pem,
    const char *checksum, struct err *err)
{
	_cleanup_(image_unref)
	OstreeRepo *repo = NULL;
	unsigned char signature[IMAGE_SIGNATURE_LEN];
	int r;

	if ((r = image_repo_open(data_dir, &repo, err)) < 0 ||
	    (r = image_has_commit(repo, checksum, err)) < 0 ||
	    (r = image_sign(private_pem, checksum, signature, err)) < 0)
		return r;
	return transfer_keep_signature(
	    repo, checksum, signature, sizeof(signature), err);
}

int
image_store_check_signature(const char *data_dir, const char *public_pem,
    const char *checksum, struct err *err)
{
	_cleanup_(image_unref)
	OstreeRepo *repo = NULL;
	GVariant *signature;
	const void *data = NULL;
	gsize n = 0;
	int r;

	if ((r = image_repo_open(data_dir, &repo, err)) < 0 ||
	    (r = image_has_commit(repo, checksum, err)) < 0)
		return r;
	if ((signature = transfer_signature(repo, checksum)) != NULL)
		data = g_variant_get_fixed_array(signature, &n, 1);
	r = image_signature_check(public_pem, checksum, data, n, err);
	if (signature != NULL)
		g_variant_unref(signature);
	return r;
}
