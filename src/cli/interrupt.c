/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Ctrl-C: says what becomes of what the farm was asked for. The handler only
 * writes texts that are ready. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"

#define SAYS_MAX 300

static const char *volatile says;
static const char *volatile half; /* a file that isn't whole yet */
static volatile pid_t group;      /* 0: none */
static const char *form;          /* of what it says when the id is known */
static char known[SAYS_MAX];

static void
on_interrupt(int signum)
{
	const char *text = says, *file = half;

	if (group > 0) {
		kill(-group, SIGTERM);
		while (waitpid(group, NULL, 0) < 0 && errno == EINTR)
			;
	}
	/* What couldn't be said or removed changes nothing: it is the end. */
	if (write(STDERR_FILENO, "\n", 1) < 0 ||
	    write(STDERR_FILENO, text, strlen(text)) < 0 ||
	    (file != NULL && unlink(file) < 0))
		_exit(128 + signum);
	_exit(128 + signum);
}

void
interrupt_begin(const char *text, const char *text_of_id)
{
	says = text;
	form = text_of_id;
	signal(SIGINT, on_interrupt);
}

void
interrupt_id(int64_t id)
{
	char digits[24], *to = known;
	const char *p;
	size_t len;

	if (form == NULL)
		return;
	snprintf(digits, sizeof(digits), "%" PRId64, id);
	len = strlen(digits);
	for (p = form; *p != '\0' && to + len + 1 < known + SAYS_MAX; p++) {
		if (*p != '#') {
			*to++ = *p;
			continue;
		}
		memcpy(to, digits, len);
		to += len;
	}
	*to = '\0';
	form = NULL; /* once: the handler may read it from now on */
	says = known;
}

void
interrupt_half(const char *file)
{
	half = file;
}

void
interrupt_group(pid_t leader)
{
	group = leader;
	signal(SIGTERM, on_interrupt);
	signal(SIGHUP, on_interrupt);
}

void
interrupt_end(void)
{
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	group = 0;
	form = NULL;
	half = NULL;
}
