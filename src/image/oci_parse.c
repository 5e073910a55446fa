/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "image/oci.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"

#if defined(__x86_64__)
#define ARCHITECTURE "amd64"
#elif defined(__aarch64__)
#define ARCHITECTURE "arm64"
#else
#define ARCHITECTURE "unknown"
#endif

/* By media type; Docker's own words mean the same. */
static const struct {
	const char *type;
	enum oci_kind kind;
} media_types[] = {
	{ "application/vnd.oci.image.index.v1+json", OCI_INDEX },
	{ "application/vnd.docker.distribution.manifest.list.v2+json",
	    OCI_INDEX },
	{ "application/vnd.oci.image.manifest.v1+json", OCI_MANIFEST },
	{ "application/vnd.docker.distribution.manifest.v2+json",
	    OCI_MANIFEST },
	{ "application/vnd.oci.image.layer.v1.tar", OCI_LAYER },
	{ "application/vnd.oci.image.layer.v1.tar+gzip", OCI_LAYER },
	{ "application/vnd.oci.image.layer.v1.tar+zstd", OCI_LAYER },
	{ "application/vnd.docker.image.rootfs.diff.tar", OCI_LAYER },
	{ "application/vnd.docker.image.rootfs.diff.tar.gzip", OCI_LAYER },
	{ "application/vnd.docker.image.rootfs.diff.tar.zstd", OCI_LAYER },
};

static enum oci_kind
kind_of(const char *type)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(media_types); i++)
		if (str_eq(type, media_types[i].type))
			return media_types[i].kind;
	return OCI_OTHER;
}

static int
parse(const char *text, size_t len, const char *what, json_t **ret,
    struct err *err)
{
	int r;

	if ((r = json_parse(text, len, ret, err)) < 0) {
		err->code = ERR_IMAGE;
		return err_wrap(err, -(int)ERR_IMAGE, "its %s", what);
	}
	if (!json_is_object(*ret))
		return err_set(err, ERR_IMAGE, "its %s is no object", what);
	return 0;
}

static bool
is_digest(const char *s)
{
	return strlen(s) == OCI_DIGEST_LEN &&
	       strspn(s, "0123456789abcdef") == OCI_DIGEST_LEN;
}

static int
parse_blob(const json_t *descriptor, struct oci_blob *ret, struct err *err)
{
	static const char sha256[] = "sha256:";
	const char *digest = json_get_str(descriptor, "digest", "");
	int64_t size = json_get_int(descriptor, "size", -1);

	if (!str_starts(digest, sha256) ||
	    !is_digest(digest + sizeof(sha256) - 1))
		return err_set(err, ERR_IMAGE,
		    "it names a blob by something else than a SHA-256 digest");
	if (size < 0)
		return err_set(
		    err, ERR_IMAGE, "it names a blob without its size");
	ret->kind = kind_of(json_get_str(descriptor, "mediaType", ""));
	str_copy(ret->digest, sizeof(ret->digest), digest + sizeof(sha256) - 1);
	ret->size = (uint64_t)size;
	return 0;
}

int
oci_parse_layout(const char *text, size_t len, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *doc = NULL;
	char shown[64];
	const char *version;
	int r;

	if ((r = parse(text, len, "oci-layout", &doc, err)) < 0)
		return r;
	version = json_get_str(doc, "imageLayoutVersion", "");
	if (!str_starts(version, "1."))
		return err_set(err, ERR_IMAGE,
		    "it is an OCI layout of version '%s', and 1.x is known",
		    str_escape(shown, sizeof(shown), version, strlen(version)));
	return 0;
}

/* How well a manifest fits this machine; 0: not at all. */
static int
fitness(const json_t *descriptor)
{
	const json_t *platform = json_object_get(descriptor, "platform");
	enum oci_kind kind = kind_of(json_get_str(descriptor, "mediaType", ""));

	if (kind != OCI_INDEX && kind != OCI_MANIFEST)
		return 0;
	if (platform == NULL)
		return 1;
	return str_eq(json_get_str(platform, "os", ""), "linux") &&
		       str_eq(json_get_str(platform, "architecture", ""),
			   ARCHITECTURE)
		   ? 2
		   : 0;
}

int
oci_parse_index(
    const char *text, size_t len, struct oci_blob *ret, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *doc = NULL;
	const json_t *best = NULL, *manifests, *m;
	int r, fits = 0;
	size_t i;

	if ((r = parse(text, len, "index", &doc, err)) < 0)
		return r;
	manifests = json_object_get(doc, "manifests");
	json_array_foreach (manifests, i, m) {
		if (fitness(m) > fits) {
			fits = fitness(m);
			best = m;
		}
	}
	if (best == NULL)
		return err_set(err, ERR_IMAGE,
		    "its index has no image for linux/" ARCHITECTURE);
	return parse_blob(best, ret, err);
}

static int
parse_layers(const json_t *layers, struct oci_manifest *m, struct err *err)
{
	size_t i, n = json_array_size(layers);
	int r;

	if (n == 0 || n > OCI_LAYERS_MAX)
		return err_set(err, ERR_IMAGE,
		    "its manifest has %zu layers; 1 to %d are possible", n,
		    OCI_LAYERS_MAX);
	m->layers = xcalloc(n, sizeof(*m->layers));
	for (i = 0; i < n; i++) {
		r = parse_blob(json_array_get(layers, i), &m->layers[i], err);
		if (r < 0)
			return r;
		m->n_layers++;
		if (m->layers[i].kind != OCI_LAYER)
			return err_set(err, ERR_IMAGE,
			    "its layer %zu is no tar, tar+gzip or tar+zstd "
			    "(an artifact, or encrypted?)",
			    i + 1);
	}
	return 0;
}

int
oci_parse_manifest(
    const char *text, size_t len, struct oci_manifest *ret, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *doc = NULL;
	struct oci_manifest m = { .n_layers = 0 };
	int r;

	if ((r = parse(text, len, "manifest", &doc, err)) < 0 ||
	    (r = parse_blob(json_object_get(doc, "config"), &m.config, err)) <
		0 ||
	    (r = parse_layers(json_object_get(doc, "layers"), &m, err)) < 0) {
		oci_manifest_done(&m);
		return r;
	}
	*ret = m;
	return 0;
}

void
oci_manifest_done(struct oci_manifest *manifest)
{
	free(manifest->layers);
	*manifest = (struct oci_manifest){ .n_layers = 0 };
}
