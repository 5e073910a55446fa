/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Supervision: a program that ends is started again, after a pause that
 * grows while it keeps failing. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/up.h"

#define PAUSE_FIRST_MS     100
#define PAUSE_LAST_MS      5000
#define GOOD_RUN_MS        10000 /* after so long it is no failed start */
#define START_FAILURES_MAX 5     /* before the farm was ever ready */

static void start(struct service *s);

static void
give_up(struct service *s, const struct err *why)
{
	struct err err = *why;

	err_wrap(&err, 0, "%s doesn't start", s->name);
	up_fail(s->up, &err);
}

static void
on_end(struct child *child, int status, bool timed_out, void *arg)
{
	struct service *s = arg;
	struct up *up = s->up;
	struct err err = { 0 };
	int r;

	s->child = NULL;
	timer_stop(&s->timer);
	r = child_status_err(s->name, status, timed_out, &err);
	if (!s->enabled) {
		if (r < 0)
			log_err(LOG_LEVEL_WARN, &err, "while stopping");
		up_stop_next(up);
		return;
	}
	if (r == 0)
		err_set(&err, ERR_UNAVAILABLE, "%s ended by itself", s->name);
	if (loop_now_ms(up->loop) - s->started_ms > GOOD_RUN_MS) {
		s->failures = 0;
		s->pause_ms = PAUSE_FIRST_MS;
	}
	log_error("%s; starting it again in %d ms", err.msg, (int)s->pause_ms);
	if (++s->failures >= START_FAILURES_MAX && up->phase == UP_STARTING) {
		give_up(s, &err);
		return;
	}
	timer_start(&s->timer, s->pause_ms);
	s->pause_ms *= 2;
	if (s->pause_ms > PAUSE_LAST_MS)
		s->pause_ms = PAUSE_LAST_MS;
}

static struct child *
spawn_daemon(struct service *s, struct err *err)
{
	struct up *up = s->up;
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", up->conf.programs_dir, s->name);
	const char *argv[] = { s->name, "--conf", up->conf_path, NULL };
	struct child_spec spec = {
		.path = path, .argv = argv, .parent_death_signal = SIGTERM
	};

	return child_spawn(up->loop, &spec, on_end, s, err);
}

static void
start(struct service *s)
{
	struct up *up = s->up;
	struct err err = { 0 };

	s->started_ms = loop_now_ms(up->loop);
	s->child = s == &up->services[SERVICE_PG]
		       ? pg_spawn(up, on_end, s, &err)
		       : spawn_daemon(s, &err);
	if (s->child == NULL)
		give_up(s, &err);
	else
		log_info(
		    "%s started, pid %d", s->name, (int)child_pid(s->child));
}

/* The pause is over; or, while stopping, the patience is. */
static void
on_timer(void *arg)
{
	struct service *s = arg;

	if (s->enabled) {
		start(s);
	} else if (s->child != NULL) {
		log_warn("%s doesn't end; killing it", s->name);
		child_kill(s->child,
		    s == &s->up->services[SERVICE_PG] ? SIGQUIT : SIGKILL);
	}
}

void
service_enable(struct service *s)
{
	timer_init(&s->timer, s->up->loop, on_timer, s);
	s->enabled = true;
	s->pause_ms = PAUSE_FIRST_MS;
	start(s);
}

/*
 * Only the program itself is asked to end: it ends its own children, in its
 * own order.
 */
void
service_stop(struct service *s, int signum, int64_t patience_ms)
{
	s->enabled = false;
	if (s->child == NULL) {
		if (s->timer.loop != NULL)
			timer_stop(&s->timer);
		return;
	}
	kill(child_pid(s->child), signum);
	timer_start(&s->timer, patience_ms);
}

bool
service_gone(const struct service *s)
{
	return s->child == NULL;
}
