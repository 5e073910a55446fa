/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dpkg's status file, as a hostile image may have it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/packages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct packages p;
	size_t i;

	packages_parse((const char *)data, size, &p);
	for (i = 0; i < p.n; i++)
		if (p.list[i].name[0] == '\0' || p.list[i].version[0] == '\0' ||
		    (i > 0 && strcmp(p.list[i - 1].name, p.list[i].name) >= 0))
			abort();
	packages_done(&p);
	return 0;
}
