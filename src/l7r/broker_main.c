/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd-l7r-broker: started by qvd-l7r with --role broker --index N. */
#include <stdio.h>

#include "base/str.h"
#include "l7r/roles.h"

static const struct role_code codes[] = {
	{ "broker", NULL, broker_run },
	{ .name = NULL },
};

int
main(int argc, char **argv)
{
	int index;

	if (argc != 5 || !str_eq(argv[1], "--role") ||
	    !str_eq(argv[3], "--index") ||
	    !str_to_int(argv[4], 0, 9999, &index)) {
		fprintf(stderr, "qvd-l7r starts this program; see "
				"qvd-l7r(8)\n");
		return 2;
	}
	return role_main(codes, argv[2], index);
}
