/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A configuration file, with a key of each type. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/conf.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct file {
	char *s;
	int i;
	bool b;
	int64_t d;
	uint64_t z;
};

static const struct conf_key keys[] = {
	{ "a", "s", CONF_STR, offsetof(struct file, s), "default", 0, 0, "" },
	{ "a", "i", CONF_INT, offsetof(struct file, i), "1", 0, 9, "" },
	{ "a", "b", CONF_BOOL, offsetof(struct file, b), NULL, 0, 0, "" },
	{ "", "d", CONF_DURATION, offsetof(struct file, d), NULL, 0, 0, "" },
	{ "c", "z", CONF_SIZE, offsetof(struct file, z), NULL, 0, 0, "" },
	{ .key = NULL },
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep)
	char *text = xcalloc(size + 1, 1);
	struct file f = { 0 };
	struct err err;

	memcpy(text, data, size);
	if (conf_parse("fuzz", text, keys, &f, &err) == 0) {
		if (f.s == NULL || f.i < 0 || f.i > 9)
			abort();
		conf_done(keys, &f);
	} else if (f.s != NULL) {
		abort();
	}
	return 0;
}
