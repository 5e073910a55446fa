/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The JSON documents of an OCI image (image-spec 1.1): layout, index,
 * manifest, as far as an import needs them. Pure: text in, structs out; the
 * text is a stranger's. oci.c reads the blobs that they name.
 */
#ifndef IMAGE_OCI_H
#define IMAGE_OCI_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define OCI_DIGEST_LEN   64 /* SHA-256, hex; no other is accepted */
#define OCI_DOCUMENT_MAX ((size_t)4 * 1024 * 1024)
#define OCI_LAYERS_MAX   512
#define OCI_NESTING_MAX  4 /* indexes in indexes */

enum oci_kind { OCI_INDEX, OCI_MANIFEST, OCI_LAYER, OCI_OTHER };

struct oci_blob {
	enum oci_kind kind;
	char digest[OCI_DIGEST_LEN + 1];
	uint64_t size;
};

struct oci_manifest {
	struct oci_blob config;
	struct oci_blob *layers; /* from the lowest up; heap */
	size_t n_layers;
};

/* {"imageLayoutVersion": "1.…"}; others are refused. */
int oci_parse_layout(const char *text, size_t len, struct err *err);
/* What the index says to import: the manifest (or further index) for this
 * machine's architecture, the only one there is, or the first that doesn't
 * name a platform. */
int oci_parse_index(
    const char *text, size_t len, struct oci_blob *ret, struct err *err);
int oci_parse_manifest(
    const char *text, size_t len, struct oci_manifest *ret, struct err *err);
void oci_manifest_done(struct oci_manifest *manifest);

#endif
