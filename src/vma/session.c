/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/session.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "json/json.h"
#include "vma/desktop.h"

static void drive_later(struct session *s);

/* ---- what others are told ---- */

json_t *
session_event(const struct session *s)
{
	char at[TIME_TEXT_MAX];

	return json_pack("{s:s, s:s, s:I, s:s?}", "at",
	    time_format(at, time_wall_us()), "session",
	    session_state_to_str(s->state), "generation",
	    (json_int_t)(s->req == NULL ? 0 : s->req->generation), "reason",
	    err_is_set(&s->reason) ? s->reason.msg : NULL);
}

json_t *
session_info(const struct session *s, const char *hook)
{
	json_t *info = json_pack("{s:s, s:s, s:I}", "hook", hook, "session",
	    session_state_to_str(s->state), "generation",
	    (json_int_t)(s->req == NULL ? 0 : s->req->generation));
	const struct request_user *u;
	char number[16];
	json_t *params;

	if (s->req == NULL)
		return info;
	u = &s->req->user;
	params = json_copy(s->req->params);
	snprintf(number, sizeof(number), "%d", (int)u->uid);
	json_object_set_new(params, "qvd.vm.user.name", json_string(u->name));
	json_object_set_new(params, "qvd.vm.user.uid", json_string(number));
	if (s->account.home[0] != '\0' && str_eq(s->account.name, u->name)) {
		json_object_set_new(
		    params, "qvd.vm.user.home", json_string(s->account.home));
		snprintf(
		    number, sizeof(number), "%u", (unsigned)s->account.gid);
		json_object_set_new(
		    params, "qvd.vm.user.gid", json_string(number));
	}
	json_object_set_new(info, "params", params);
	json_object_set_new(info, "user",
	    json_pack("{s:s, s:i}", "name", u->name, "uid", (int)u->uid));
	return info;
}

void
session_tell(struct session *s, const char *text)
{
	log_info("%s", text);
	if (s->client != NULL)
		session_client_info(s->client, text);
}

static void
on_state_hook(const struct err *err, void *arg)
{
	struct session *s = arg;

	if (err != NULL)
		session_publish(s->vma, json_pack("{s:s, s:s}", "event",
					    "hook-failed", "reason", err->msg));
}

static void
state_hook(struct session *s, const char *name)
{
	json_t *info;

	if (!hook_exists(s->vma, "state", name))
		return;
	info = session_info(s, name);
	hook_run(s->vma, "state", name, info, on_state_hook, s);
	json_decref(info);
}

static void
fail_client(struct session *s, const struct err *err)
{
	struct session_client *client = take_ptr(s->client);

	if (client != NULL)
		session_client_fail(client, err);
}

static void
answer_waiters(struct session *s, enum session_want want)
{
	struct session_waiter *w;

	LIST_EACH (&s->waiters, w, struct session_waiter, link) {
		/* What has stopped is also no longer shown anywhere. */
		if (w->want == want || want == SESSION_WANT_STOP) {
			list_del(&w->link);
			session_client_done(w->client);
			free(w);
		}
	}
}

/* ---- the state machine ---- */

static void
close_tunnel(struct session *s)
{
	tunnel_free(take_ptr(s->tunnel));
}

static void
enter_connected(struct session *s)
{
	s->had_display = true;
	s->restarted = false;
	if (!task_running(&s->desktop))
		desktop_start(s);
	state_hook(s, "connected");
}

static void
enter_stopped(struct session *s)
{
	void (*stopped)(void *arg) = take_ptr(s->stopped);

	close_tunnel(s);
	timer_stop(&s->stop_timer);
	s->stop_stage = 0;
	s->had_display = false;
	s->listens_for = -1;
	answer_waiters(s, SESSION_WANT_STOP);
	if (stopped != NULL)
		stopped(s->stopped_arg);
}

static void
enter_listening(struct session *s)
{
	struct session_client *client;

	prepare_phase(&s->prepare, s->resuming ? "resume" : "agent",
	    loop_now_ms(s->vma->loop));
	if (s->client == NULL || s->listens_for != s->req->generation)
		return; /* drive() sees to it */
	json_object_set_new(s->prepare.phases, "total",
	    json_integer(loop_now_ms(s->vma->loop) - s->prepare.began_ms));
	client = take_ptr(s->client);
	session_client_listening(client, s->resuming, s->prepare.phases);
}

static void
enter(struct session *s, enum session_state state)
{
	const struct session_deadline *d = session_state_deadline(state);
	enum session_state from = s->state;
	int64_t now = loop_now_ms(s->vma->loop);

	log_info("session %s -> %s after %lld ms%s%s",
	    session_state_to_str(from), session_state_to_str(state),
	    (long long)(now - s->since_ms), err_is_set(&s->reason) ? ": " : "",
	    s->reason.msg);
	s->state = state;
	s->since_ms = now;
	s->deadline_half = false;
	s->deadline_ms = state == SESSION_STARTING && s->resuming
			     ? s->vma->conf.agent_timeout_ms
			     : d->deadline_ms;
	if (s->deadline_ms > 0)
		timer_start(&s->deadline, s->deadline_ms / 2);
	else
		timer_stop(&s->deadline);
	session_publish(s->vma, session_event(s));
	if (from == SESSION_CONNECTED)
		state_hook(s, "disconnected");
	if (state == SESSION_LISTENING)
		enter_listening(s);
	else if (state == SESSION_CONNECTED)
		enter_connected(s);
	else if (state == SESSION_STOPPED)
		enter_stopped(s);
	else if (state == SESSION_SUSPENDED) {
		close_tunnel(s);
		answer_waiters(s, SESSION_WANT_SUSPEND);
		state_hook(s, "suspended");
	} else if (state == SESSION_STOPPING)
		desktop_stop(s);
	drive_later(s);
}

void
session_fire(struct session *s, enum session_event event)
{
	struct err err;
	enum session_state to;

	if (session_state_next(s->state, event, &to, &err) < 0) {
		log_debug("%s", err.msg);
		return;
	}
	if (to != s->state)
		enter(s, to);
}

static bool
may(const struct session *s, enum session_event event)
{
	enum session_state to;

	return session_state_next(s->state, event, &to, NULL) == 0 &&
	       to != s->state;
}

/* Half of each deadline is given twice: a VM that was frozen for a while
 * finds the first half over, and has the second to catch up. */
static void
on_deadline(void *arg)
{
	struct session *s = arg;
	long long seconds = s->deadline_ms / 1000;

	if (!s->deadline_half) {
		s->deadline_half = true;
		timer_start(&s->deadline, s->deadline_ms / 2);
		return;
	}
	if (s->state == SESSION_LISTENING) {
		log_warn("no client took the display in %lld s", seconds);
		session_fire(s, SESSION_EVENT_SUSPEND);
		agent_signal(&s->agent, SIGHUP);
		return;
	}
	if (s->state == SESSION_STOPPING) {
		desktop_kill(s);
		return;
	}
	err_set(&s->reason, ERR_SESSION,
	    "the desktop's display agent did not answer for %lld s while the "
	    "session was %s and was ended; connect again for a new session",
	    seconds, session_state_to_str(s->state));
	log_err(LOG_LEVEL_ERROR, &s->reason, "session");
	s->hung = true;
	if (s->state == SESSION_STARTING && s->resuming) {
		task_kill(&s->agent.task, SIGKILL);
		return;
	}
	if (s->state == SESSION_STARTING)
		fail_client(s, &s->reason);
	prepare_cancel(s);
	s->stop_stage = DESKTOP_HANGS;
	session_fire(s, SESSION_EVENT_STOP);
}

/* ---- the agent ---- */

static void
on_listening(struct session *s)
{
	agent_poke_stop(&s->agent);
	if (s->state == SESSION_STARTING)
		session_fire(s, SESSION_EVENT_LISTEN);
	else if (s->state == SESSION_SUSPENDED) {
		/* Nobody asked (the user's own HUP): back to sleep. */
		agent_signal(&s->agent, SIGHUP);
	}
}

static void
on_agent_line(enum agent_line line, void *arg)
{
	struct session *s = arg;

	switch (line) {
	case AGENT_LINE_LISTENING:
		on_listening(s);
		break;
	case AGENT_LINE_STARTED:
	case AGENT_LINE_RESUMED:
		session_fire(s, SESSION_EVENT_CONNECT);
		break;
	case AGENT_LINE_SUSPENDING:
		session_fire(s, SESSION_EVENT_SUSPEND);
		break;
	case AGENT_LINE_SUSPENDED:
		session_fire(s, SESSION_EVENT_SUSPENDED);
		break;
	case AGENT_LINE_TERMINATING:
	case AGENT_LINE_ABORTING:
		if (may(s, SESSION_EVENT_STOP))
			session_fire(s, SESSION_EVENT_STOP);
		break;
	case AGENT_LINE_TERMINATED:
	case AGENT_LINE_ABORTED:
		/* What follows (dialogs, watchdogs) helps nobody. */
		desktop_hurry(s);
		break;
	default:
		break;
	}
}

static void
on_agent_end(int status, void *arg)
{
	struct session *s = arg;
	enum session_state state = s->state;
	char last[LINES_TEXT];

	/* Without ever a display it ends when it is told to listen no more. */
	if (state != SESSION_STOPPING && !s->hung &&
	    (s->had_display || state == SESSION_STARTING)) {
		err_set(&s->reason, ERR_SESSION,
		    "the desktop's display agent ended by itself (%s %d)%s%s",
		    WIFSIGNALED(status) ? "signal" : "exit status",
		    WIFSIGNALED(status) ? WTERMSIG(status)
					: WEXITSTATUS(status),
		    lines_last(&s->agent.task.out, last)[0] == '\0' ? "" : ": ",
		    last);
		log_err(LOG_LEVEL_ERROR, &s->reason, "session");
	}
	s->hung = false;
	if (state == SESSION_STARTING && (!s->resuming || s->restarted))
		fail_client(s, &s->reason);
	if (s->resuming && state == SESSION_STARTING)
		s->restarted = true;
	/* Else drive() starts it anew for a client that waits. */
	if (s->client != NULL && err_is_set(&s->reason))
		session_tell(s, "The desktop was lost and is started anew");
	if (state == SESSION_STOPPING || task_running(&s->desktop)) {
		session_fire(s, SESSION_EVENT_STOP);
		desktop_stop_next(s);
	} else {
		session_fire(s, SESSION_EVENT_EXIT);
	}
}

void
session_prepared(struct session *s)
{
	struct err err;
	int r;

	prepare_phase(&s->prepare, "connect", loop_now_ms(s->vma->loop));
	s->listens_for = s->req->generation;
	s->resuming = s->prepare.resume;
	if (s->resuming && s->state != SESSION_SUSPENDED) {
		drive_later(s); /* it ended meanwhile */
		return;
	}
	session_tell(
	    s, s->resuming ? "Resuming the desktop" : "Starting the desktop");
	if (s->resuming)
		r = agent_resume(&s->agent, s->req, &s->account, &err);
	else
		r = agent_start(&s->agent, s->req, &s->account, &err);
	if (r < 0)
		session_prepare_failed(s, &err);
	else if (s->resuming)
		session_fire(s, SESSION_EVENT_RESUME);
}

void
session_prepare_failed(struct session *s, const struct err *err)
{
	s->reason = *err;
	log_err(LOG_LEVEL_ERROR, err, "start the session");
	fail_client(s, err);
	if (s->state == SESSION_STARTING)
		session_fire(s, SESSION_EVENT_EXIT);
}

/* ---- one step towards what the newest client wants ---- */

static void
drive(void *arg)
{
	struct session *s = arg;

	s->drive_due = false;
	if (s->client == NULL || s->prepare.running || s->vma->ending)
		return;
	switch (s->state) {
	case SESSION_STOPPED:
		s->reason = (struct err){ 0 };
		s->over = false;
		session_fire(s, SESSION_EVENT_START);
		prepare_begin(s, false);
		break;
	case SESSION_SUSPENDED:
		s->reason = (struct err){ 0 };
		prepare_begin(s, true);
		break;
	case SESSION_LISTENING:
		/* The agent listens with an older client's options. */
		close_tunnel(s);
		session_fire(s, SESSION_EVENT_SUSPEND);
		agent_signal(&s->agent, SIGHUP);
		break;
	case SESSION_CONNECTED:
		/* The agent suspends when its display goes. A HUP could
		 * cross the agent's own decision and resume it again. */
		session_tell(s, "Taking the desktop from another client");
		close_tunnel(s);
		session_fire(s, SESSION_EVENT_SUSPEND);
		break;
	case SESSION_STARTING:
	case SESSION_SUSPENDING:
	case SESSION_STOPPING:
	case SESSION_COUNT_:
		break; /* the next state comes by itself */
	}
}

static void
drive_later(struct session *s)
{
	if (s->drive_due)
		return;
	s->drive_due = true;
	loop_defer(s->vma->loop, drive, s);
}

/* ---- requests ---- */

struct session *
session_new(struct vma *vma)
{
	struct session *s = new0(struct session);

	s->vma = vma;
	s->state = SESSION_STOPPED;
	s->since_ms = loop_now_ms(vma->loop);
	s->listens_for = -1;
	list_init(&s->waiters);
	timer_init(&s->deadline, vma->loop, on_deadline, s);
	timer_init(&s->stop_timer, vma->loop, desktop_on_stop_timer, s);
	agent_init(&s->agent, vma, on_agent_line, on_agent_end, s);
	return s;
}

int
session_request(struct session *s, struct request *req,
    struct session_client *client, struct err *err)
{
	struct err beaten;

	if (s->vma->ending)
		return err_set(err, ERR_UNAVAILABLE,
		    "the desktop's machine is shutting down; connect again "
		    "in a moment");
	if (s->req != NULL && req->generation < s->req->generation)
		return err_set(err, ERR_TAKEN_OVER,
		    "another client has taken over the session");
	if (s->state != SESSION_STOPPED && s->req != NULL &&
	    (!str_eq(req->user.name, s->req->user.name) ||
		req->user.uid != s->req->user.uid))
		return err_set(err, ERR_CONFLICT,
		    "the session that runs here is that of '%s': stop it "
		    "before '%s' can have one",
		    s->req->user.name, req->user.name);
	if (req->resume && s->over &&
	    (s->state == SESSION_STOPPED || s->state == SESSION_STOPPING))
		return err_set(err, ERR_ENDED, "the session has ended");
	err_set(&beaten, ERR_TAKEN_OVER,
	    "another client has taken over the session");
	fail_client(s, &beaten);
	request_free(s->req);
	s->req = req;
	s->client = client;
	s->restarted = false;
	s->prepare.again = s->prepare.running;
	drive_later(s);
	return 0;
}

void
session_forget(struct session *s, struct session_client *client)
{
	struct session_waiter *w;

	if (s->client == client)
		s->client = NULL;
	LIST_EACH (&s->waiters, w, struct session_waiter, link) {
		if (w->client == client) {
			list_del(&w->link);
			free(w);
		}
	}
}

int
session_wait(struct session *s, enum session_want want,
    struct session_client *client, struct err *err)
{
	struct session_waiter *w;
	struct err cancelled;

	if (s->state == SESSION_STOPPED ||
	    (s->state == SESSION_SUSPENDED && want == SESSION_WANT_SUSPEND &&
		!s->prepare.running))
		return 1;
	if (want == SESSION_WANT_SUSPEND && s->state == SESSION_STARTING)
		return err_set(err, ERR_CONFLICT,
		    "the session is starting; suspend it when it listens");
	w = new0(struct session_waiter);
	w->want = want;
	w->client = client;
	list_add(&s->waiters, &w->link);
	err_set(&cancelled, ERR_CANCELLED, "the session was %s meanwhile",
	    want == SESSION_WANT_STOP ? "stopped" : "suspended");
	fail_client(s, &cancelled);
	prepare_cancel(s);
	if (want == SESSION_WANT_STOP) {
		s->over = true;
		session_fire(s, SESSION_EVENT_STOP);
	} else if (s->state == SESSION_SUSPENDED) {
		answer_waiters(s, want);
	} else if (may(s, SESSION_EVENT_SUSPEND)) {
		bool hup = s->state == SESSION_LISTENING;

		close_tunnel(s);
		session_fire(s, SESSION_EVENT_SUSPEND);
		if (hup)
			agent_signal(&s->agent, SIGHUP);
	}
	return 0;
}

int
session_stream(
    struct session *s, int64_t generation, int *ret_fd, struct err *err)
{
	if (s->req != NULL && generation != s->req->generation)
		return err_set(err, ERR_TAKEN_OVER,
		    "another client has taken over the session");
	if (s->state != SESSION_LISTENING || s->tunnel != NULL)
		return err_set(err, ERR_CONFLICT,
		    "the session is %s: a stream is there once, after each "
		    "POST /session",
		    s->tunnel != NULL ? "connected"
				      : session_state_to_str(s->state));
	return agent_connect(&s->agent, ret_fd, err);
}

static void
on_tunnel_end(struct tunnel *tunnel, const struct err *err,
    const struct tunnel_stats *stats, void *arg)
{
	struct session *s = arg;

	log_info("the display's stream ended after %lld ms, %llu bytes to "
		 "the client, %llu back%s%s",
	    (long long)stats->duration_ms, (unsigned long long)stats->bytes_ba,
	    (unsigned long long)stats->bytes_ab, err == NULL ? "" : ": ",
	    err == NULL ? "" : err->msg);
	s->tunnel = NULL;
	/* The agent sees it too; the deadline is for one that doesn't. */
	if (s->state == SESSION_CONNECTED || s->state == SESSION_LISTENING)
		session_fire(s, SESSION_EVENT_SUSPEND);
}

void
session_relay(struct session *s, struct io *client, struct io *agent)
{
	s->tunnel = tunnel_new(s->vma->loop, client, agent, on_tunnel_end, s);
}

void
session_end(struct session *s, void (*stopped)(void *arg), void *arg)
{
	struct err err;

	err_set(&err, ERR_CANCELLED, "the desktop's machine is shutting down");
	fail_client(s, &err);
	if (s->state == SESSION_STOPPED) {
		stopped(arg);
		return;
	}
	s->stopped = stopped;
	s->stopped_arg = arg;
	prepare_cancel(s);
	session_fire(s, SESSION_EVENT_STOP);
}
