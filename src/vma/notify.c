/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/notify.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"

#define OWN_PROGRAM "/etc/qvd/notify"
#define TITLE       "Message from the administrator"

static void
on_line(const char *line, void *arg)
{
	char shown[LINES_TEXT];

	log_info("message: %s",
	    str_escape(shown, sizeof(shown), line, strlen(line)));
}

static void
show_now(struct session *s)
{
	bool own = access(OWN_PROGRAM, X_OK) == 0;
	json_t *argv;
	struct err err;

	argv = own ? json_pack("[s, s, s]", OWN_PROGRAM, TITLE, s->message_text)
		   : json_pack("[s, s, s, s, s]", s->vma->self, "--role",
			 "message", "--text", s->message_text);
	free(s->message_text);
	s->message_text = NULL;
	if (agent_run_as(&s->message, s->vma, &s->account, &s->agent, argv,
		NULL, on_line, notify_on_end, s, &err) < 0)
		log_err(LOG_LEVEL_WARN, &err, "show a message");
	json_decref(argv);
}

void
notify_on_end(struct task *task, int status, bool timed_out, void *arg)
{
	struct session *s = arg;

	/* A newer one waits for the end of this. */
	if (s->message_text != NULL && session_state_is_alive(s->state))
		show_now(s);
}

bool
notify_show(struct session *s, const char *text)
{
	if (!session_state_is_alive(s->state) || s->state == SESSION_STOPPING ||
	    !task_running(&s->agent.task))
		return false;
	free(s->message_text);
	s->message_text = xstrdup(text);
	if (task_running(&s->message))
		task_kill(&s->message, SIGTERM);
	else
		show_now(s);
	return true;
}

/* In the desktop's own time. */
static void
local_time(char *dst, size_t size, const char *text)
{
	int64_t us;
	struct tm tm;
	time_t t;

	if (!time_parse(text, &us)) {
		str_copy(dst, size, text);
		return;
	}
	t = (time_t)(us / 1000000);
	localtime_r(&t, &tm);
	strftime(dst, size, "%Y-%m-%d %H:%M %Z", &tm);
}

char *
notify_expiry_text(const char *hard)
{
	char when[64];

	if (hard == NULL)
		return xstrdup(
		    "There is a new version of this desktop. Save your work "
		    "and log out when it suits you: you get it when the "
		    "desktop has been restarted.");
	local_time(when, sizeof(when), hard);
	return xasprintf("There is a new version of this desktop. It will be "
			 "restarted on %s. Save your work before.",
	    when);
}

const char *
notify_disk_text(enum vm_disk disk, enum fill fill)
{
	static const char home_full[] =
	    "Your home is full: nothing more can be saved in it. Remove files "
	    "that you don't need, and empty the waste basket, before you log "
	    "out: logging in again may fail with a full home. Your "
	    "administrator can make it larger.";
	static const char home_high[] =
	    "Your home is nearly full. Remove files that you don't need, and "
	    "empty the waste basket, or ask your administrator to make it "
	    "larger.";
	static const char system_full[] =
	    "This desktop's disk is full outside of your home: programs may "
	    "fail. Remove what you have put there (in /tmp, /var/tmp), and "
	    "tell your administrator.";
	static const char system_high[] =
	    "This desktop's disk is nearly full outside of your home. Remove "
	    "what you have put there (in /tmp, /var/tmp), or tell your "
	    "administrator.";

	if (disk == VM_DISK_HOME)
		return fill == FILL_FULL ? home_full : home_high;
	return fill == FILL_FULL ? system_full : system_high;
}
