/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/desktop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "vma/init.h"

/* So early an end is no user's: with an error, and without one, which somebody
 * who is quick can be the cause of. */
#define FAILED_MS      3000
#define LOGGED_OUT_MS  1000
#define AGENT_GRACE_MS 3000
#define HURRY_MS       300

static char *
log_path(const struct session *s)
{
	return xasprintf("%s/.xsession-errors", s->account.home);
}

/* The last line of the user's log, escaped. The file is the user's: it is
 * opened without following links and must be a plain file of theirs. */
static const char *
log_last_line(const struct session *s, char dst[static LINES_TEXT])
{
	_cleanup_(freep)
	char *path = log_path(s);
	_cleanup_(closep)
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char tail[LINES_MAX];
	struct stat st;
	ssize_t n;
	char *line;

	dst[0] = '\0';
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_uid != s->account.uid)
		return dst;
	n = pread(fd, tail, sizeof(tail) - 1,
	    st.st_size > (off_t)sizeof(tail) - 1
		? st.st_size - ((off_t)sizeof(tail) - 1)
		: 0);
	while (n > 0 && (tail[n - 1] == '\n' || tail[n - 1] == ' '))
		n--;
	if (n <= 0)
		return dst;
	tail[n] = '\0';
	line = strrchr(tail, '\n');
	line = line == NULL ? tail : line + 1;
	return str_escape(dst, LINES_TEXT, line, strlen(line));
}

static void
desktop_failed(struct session *s, const struct err *err)
{
	s->reason = *err;
	log_err(LOG_LEVEL_ERROR, err, "session");
	session_fire(s, SESSION_EVENT_STOP);
}

static void
on_desktop_end(struct task *task, int status, bool timed_out, void *arg)
{
	struct session *s = arg;
	int64_t lived = loop_now_ms(s->vma->loop) - s->desktop_began_ms;
	char last[LINES_TEXT], name[320];
	struct err err = { 0 };
	size_t len;

	if (s->state == SESSION_STOPPING) {
		desktop_stop_next(s);
		return;
	}
	if (lived >= FAILED_MS || (status == 0 && lived >= LOGGED_OUT_MS)) {
		err_set(&s->reason, ERR_SESSION, "the user logged out");
		s->over = true;
		session_fire(s, SESSION_EVENT_STOP);
		return;
	}
	snprintf(name, sizeof(name), "the image's X session '%s' ended at once",
	    s->program);
	if (child_status_err(name, status, timed_out, &err) == 0)
		err_set(&err, ERR_SESSION, "%s, without an error", name);
	err.code = ERR_SESSION;
	len = strlen(err.msg);
	if (log_last_line(s, last)[0] != '\0')
		snprintf(err.msg + len, sizeof(err.msg) - len, ": %s", last);
	desktop_failed(s, &err);
}

void
desktop_start(struct session *s)
{
	_cleanup_(freep)
	char *log = log_path(s);
	json_t *argv = json_pack("[s]", s->program);
	struct err err;

	s->desktop_began_ms = loop_now_ms(s->vma->loop);
	if (agent_run_as(&s->desktop, s->vma, &s->account, &s->agent, argv, log,
		NULL, on_desktop_end, s, &err) < 0)
		desktop_failed(s, &err);
	json_decref(argv);
}

static void
stage(struct session *s, enum desktop_stage stage, int64_t limit_ms)
{
	s->stop_stage = stage;
	timer_start(&s->stop_timer, limit_ms);
}

static void
kill_user(struct session *s, int signum)
{
	if (s->vma->is_init && s->account.uid > 0)
		init_kill_user(
		    s->account.uid, signum, task_pid(&s->agent.task));
}

void
desktop_kill(struct session *s)
{
	task_kill(&s->desktop, SIGKILL);
	task_kill(&s->agent.task, SIGKILL);
	stage(s, DESKTOP_KILLED, AGENT_GRACE_MS);
	desktop_stop_next(s);
}

void
desktop_stop(struct session *s)
{
	if (s->stop_stage == DESKTOP_HANGS) {
		desktop_kill(s);
		return;
	}
	stage(s, DESKTOP_LOGOUT, s->vma->conf.logout_timeout_ms);
	task_kill(&s->desktop, SIGTERM);
	kill_user(s, SIGTERM);
	desktop_stop_next(s);
}

void
desktop_stop_next(struct session *s)
{
	if (s->state != SESSION_STOPPING || task_running(&s->desktop))
		return;
	if (task_running(&s->agent.task)) {
		if (s->stop_stage < DESKTOP_AGENT) {
			stage(s, DESKTOP_AGENT, AGENT_GRACE_MS);
			agent_signal(&s->agent, SIGTERM);
		}
		return;
	}
	kill_user(s, SIGKILL);
	session_fire(s, SESSION_EVENT_EXIT);
}

void
desktop_hurry(struct session *s)
{
	if (s->state == SESSION_STOPPING && !task_running(&s->desktop))
		stage(s, DESKTOP_AGENT, HURRY_MS);
}

void
desktop_on_stop_timer(void *arg)
{
	struct session *s = arg;

	if (s->state != SESSION_STOPPING)
		return;
	if (s->stop_stage == DESKTOP_LOGOUT) {
		log_warn("the desktop did not end by itself");
		task_kill(&s->desktop, SIGKILL);
		stage(s, DESKTOP_AGENT, AGENT_GRACE_MS);
		agent_signal(&s->agent, SIGTERM);
	} else {
		desktop_kill(s);
	}
}
