/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The documents of an OCI image: each input is read as each of them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/oci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_digest(const struct oci_blob *blob)
{
	if (strspn(blob->digest, "0123456789abcdef") != OCI_DIGEST_LEN ||
	    blob->digest[OCI_DIGEST_LEN] != '\0')
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct oci_manifest manifest = { .n_layers = 0 };
	struct oci_blob blob;
	struct err err = { 0 };
	size_t i;

	oci_parse_layout(text, size, &err);
	if (oci_parse_index(text, size, &blob, &err) == 0)
		check_digest(&blob);
	if (oci_parse_manifest(text, size, &manifest, &err) < 0)
		return 0;
	if (manifest.n_layers == 0 || manifest.n_layers > OCI_LAYERS_MAX)
		abort();
	for (i = 0; i < manifest.n_layers; i++)
		check_digest(&manifest.layers[i]);
	oci_manifest_done(&manifest);
	return 0;
}
