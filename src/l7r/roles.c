/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "l7r/roles.h"

#include <fcntl.h>
#include <jansson.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#define USER  "qvd-l7r"
#define GROUP "qvd" /* may open hkd.sock */

static const struct role roles[] = {
	{ "worker", "qvd-l7r", USER, NULL, true, SANDBOX_STREAMS, 65536 },
	{ "auth", "qvd-l7r", USER, NULL, true, SANDBOX_NO_EXEC, 64 },
	{ "broker", "qvd-l7r-broker", USER, GROUP, false, SANDBOX_NO_EXEC,
	    1024 },
};

const struct role *
role_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(roles); i++)
		if (str_eq(roles[i].name, name))
			return &roles[i];
	return NULL;
}

/* Passwords and keys travel in JSON between the roles: whatever JSON gives
 * back is wiped. */
static void
wiping_free(void *p)
{
	if (p == NULL)
		return;
	explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

static const struct role_code *
find_code(const struct role_code *codes, const char *name)
{
	for (; codes->name != NULL; codes++)
		if (str_eq(codes->name, name))
			return codes;
	return NULL;
}

int
role_main(const struct role_code *codes, const char *name, int index)
{
	const struct role_code *code = find_code(codes, name);
	const struct role *role = role_find(name);
	struct err err = { 0 };
	char program[32];

	if (code == NULL || role == NULL) {
		fprintf(stderr, "no role '%s' in this program\n", name);
		return 2;
	}
	snprintf(program, sizeof(program), "l7r/%s%d", role->name, index);
	log_init(program);
	if (fcntl(ROLE_FD, F_SETFD, FD_CLOEXEC) < 0) {
		log_error("descriptor %d is not open; roles are started by "
			  "qvd-l7r itself",
		    ROLE_FD);
		return 1;
	}
	json_set_alloc_funcs(malloc, wiping_free);
	signal(SIGPIPE, SIG_IGN);
	/* The parent decides when we end: a terminal's ^C goes to it. */
	signal(SIGINT, SIG_IGN);
	if (sandbox_enter(role, code, &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "give up privileges");
		return err_exit_code(err.code);
	}
	return code->run(index);
}
