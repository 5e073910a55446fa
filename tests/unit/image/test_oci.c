/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "image/oci.h"

static struct err err;

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define BLOB(type, size)                                   \
	"{\"mediaType\":\"application/vnd.oci.image." type \
	"\",\"digest\":\"sha256:" HEX "\",\"size\":" size "}"
#define CONFIG BLOB("config.v1+json", "3")

static int
manifest(const char *text, struct oci_manifest *ret)
{
	return oci_parse_manifest(text, strlen(text), ret, &err);
}

static void
layers_in_their_order(void **state)
{
	struct oci_manifest m;

	assert_ok(manifest("{\"config\":" CONFIG ",\"layers\":[" BLOB(
			       "layer.v1.tar", "1") "," BLOB("layer.v1.tar+"
							     "zstd",
			       "2") "]}",
	    &m));
	assert_int_equal(m.n_layers, 2);
	assert_int_equal(m.layers[0].size, 1);
	assert_int_equal(m.layers[1].size, 2);
	assert_string_equal(m.config.digest, HEX);
	oci_manifest_done(&m);
}

static void
what_is_no_image_is_refused(void **state)
{
	struct oci_manifest m;

	assert_err(manifest("{}", &m), IMAGE, "digest");
	assert_err(manifest("[]", &m), IMAGE, "no object");
	assert_err(manifest("{", &m), IMAGE, "its manifest");
	assert_err(manifest("{\"config\":" CONFIG "}", &m), IMAGE, "0 layers");
	assert_err(manifest("{\"config\":" CONFIG
			    ",\"layers\":[" BLOB("artifact", "1") "]}",
		       &m),
	    IMAGE, "no tar");
}

static void
an_index_names_this_machine(void **state)
{
	static const char one[] =
	    "{\"manifests\":[" BLOB("manifest.v1+json", "7") "]}";
	static const char config[] = "{\"manifests\":[" CONFIG "]}";
	struct oci_blob blob;

	assert_ok(oci_parse_index(one, strlen(one), &blob, &err));
	assert_int_equal(blob.kind, OCI_MANIFEST);
	assert_int_equal(blob.size, 7);
	assert_err(oci_parse_index(config, strlen(config), &blob, &err), IMAGE,
	    "no image for linux");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layers_in_their_order),
		cmocka_unit_test(what_is_no_image_is_refused),
		cmocka_unit_test(an_index_names_this_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
