/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A session from the first connection to its end: connect, relay, and after
 * a lost link connect again, with growing pauses, as the one who held the
 * session (X-QVD-Resume), so that two clients never fight over it.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "client/client_priv.h"
#include "client/relay.h"
#include "client/viewer.h"

#define CONNECT_MS       (10 * 60 * 1000) /* a cold node may need minutes */
#define RECONNECT_MS     (30 * 60 * 1000)
#define RETRY_CONNECT_MS (2 * 60 * 1000)
#define ASK_CONNECT_MS   (10 * 1000)
#define DISPLAY_MS       15000
#define PAUSE_FIRST_MS   500
#define PAUSE_MAX_MS     30000
#define STEADY_MS        30000 /* so long a connection was a good one */
#define QUERY_MAX        (32 * 1024)
#define PARAMS_MAX       64
#define SLAVE_KEY_MAX    256

struct session {
	struct qvd_client *c;
	const struct qvd_session_options *o;
	struct viewer viewer;
	char key[SLAVE_KEY_MAX]; /* of the last connection; secret */
	bool started;            /* it has drawn, in this connection */
	bool closed; /* the farm ended the last connection in order */
	int64_t started_ms;
	int pause_ms; /* before the next attempt */
};

/* Parameters */

static const char *
measured_link(const struct qvd_client *c)
{
	int rtt = conn_rtt_us(&c->conn);

	/* The round trip tells a desk's network from a road's; what NX makes
	 * of each name was measured (docs/delivery.md). */
	if (rtt >= 0 && rtt < 4000)
		return "lan";
	if (rtt >= 0 && rtt < 25000)
		return "wan";
	return "adsl";
}

static bool
add_param(struct buf *query, const char *name, const char *value)
{
	static const char hex[] = "0123456789ABCDEF";
	const unsigned char *p = (const unsigned char *)value;
	bool ok = buf_printf(query, "&%s=", name);

	for (; ok && *p != '\0'; p++)
		if (strchr(
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			"0123456789-._~/",
			*p) != NULL)
			ok = buf_append(query, p, 1);
		else
			ok = buf_printf(
			    query, "%%%c%c", hex[*p >> 4], hex[*p & 15]);
	return ok;
}

static int
make_query(struct session *s, char **ret, struct err *err)
{
	const struct qvd_session_options *o = s->o;
	struct buf query;
	size_t i;
	bool ok;

	buf_init(&query, QUERY_MAX);
	ok = buf_printf(&query, "id=%lld", (long long)o->vm_id) &&
	     add_param(&query, "qvd.client.os", "linux") &&
	     add_param(&query, "qvd.client.link",
		 o->link != NULL ? o->link : measured_link(s->c)) &&
	     add_param(&query, "qvd.client.keyboard",
		 o->keyboard != NULL ? o->keyboard : "pc105/us") &&
	     add_param(
		 &query, "qvd.client.fullscreen", o->fullscreen ? "1" : "0");
	if (ok && o->geometry != NULL)
		ok = add_param(&query, "qvd.client.geometry", o->geometry);
	for (i = 0; ok && o->params != NULL && o->params[i] != NULL; i += 2)
		ok = add_param(&query, o->params[i], o->params[i + 1]);
	*ret = ok ? buf_take_str(&query) : NULL;
	buf_done(&query);
	return ok ? 0
		  : err_set(err, ERR_TOO_LARGE,
			"the parameters of the session are longer than %d "
			"KiB",
			QUERY_MAX / 1024);
}

/* What the desktop accepts as an option of its X server. */
static bool
is_option(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			     "abcdefghijklmnopqrstuvwxyz0123456789_/+.-");

	return n > 0 && n <= 64 && s[n] == '\0';
}

static bool
is_geometry(const char *s)
{
	char width[8];
	const char *x = strchr(s, 'x');
	size_t n = x != NULL ? (size_t)(x - s) : 0;
	int v;

	if (n == 0 || n >= sizeof(width))
		return false;
	memcpy(width, s, n);
	width[n] = '\0';
	return str_to_int(width, 64, 16384, &v) &&
	       str_to_int(x + 1, 64, 16384, &v);
}

static int
check_params(const char *const *params, struct err *err)
{
	size_t i;

	for (i = 0; params != NULL && params[i] != NULL; i += 2) {
		if (i >= 2 * PARAMS_MAX)
			return err_set(err, ERR_USAGE,
			    "more than %d parameters for the session",
			    PARAMS_MAX);
		if (!str_is_name(params[i], 128) ||
		    !(str_starts(params[i], "custom.") ||
			str_starts(params[i], "qvd.client.")))
			return err_set(err, ERR_USAGE,
			    "'%s' can't be a parameter: names begin with "
			    "'custom.' or 'qvd.client.'",
			    params[i]);
		if (params[i + 1] == NULL || !str_is_text(params[i + 1], 4096))
			return err_set(err, ERR_USAGE,
			    "parameter '%s' needs a value of at most 4096 "
			    "bytes of text",
			    params[i]);
	}
	return 0;
}

static int
check_options(const struct qvd_session_options *o, struct err *err)
{
	static const char *const links[] = { "modem", "isdn", "adsl", "wan",
		"lan" };
	size_t i;

	if (o->vm_id <= 0)
		return err_set(err, ERR_USAGE, "no desktop was named");
	if (o->geometry != NULL && !is_geometry(o->geometry))
		return err_set(err, ERR_USAGE,
		    "geometry '%s' is not WIDTHxHEIGHT with sides of 64 to "
		    "16384",
		    o->geometry);
	if (o->keyboard != NULL && !is_option(o->keyboard))
		return err_set(err, ERR_USAGE,
		    "keyboard '%s' is not of the form pc105/us", o->keyboard);
	for (i = 0; o->link != NULL && i < ARRAY_SIZE(links); i++)
		if (str_eq(o->link, links[i]))
			break;
	if (i == ARRAY_SIZE(links))
		return err_set(err, ERR_USAGE,
		    "link '%s' is none of modem, isdn, adsl, wan, lan",
		    o->link);
	return check_params(o->params, err);
}

/* One connection */

static void
on_line(const char *line, void *arg)
{
	struct session *s = arg;

	client_event(s->c, QVD_EVENT_LOG, line, 0);
}

static void
on_started(void *arg)
{
	struct session *s = arg;

	s->started = true;
	s->started_ms = time_now_ms();
	client_event(s->c, QVD_EVENT_STARTED, NULL, 0);
}

static int
start_viewer(struct session *s, struct err *err)
{
	viewer_init(&s->viewer);
	s->viewer.on_line = on_line;
	s->viewer.arg = s;
	return viewer_start(&s->viewer, s->c->program_dir, s->o->display, err);
}

static void
early_done(struct buf *early)
{
	buf_done(early);
}

/* From the request to the 101. resume: as the one who held the session. */
static int
open_session(struct session *s, bool resume, int64_t deadline_ms,
    struct buf *early, struct err *err)
{
	struct farm_request req = { .path = "/qvd/connect_to_vm",
		.deadline_ms = deadline_ms,
		.upgrade = true,
		.resume = resume && s->key[0] != '\0' ? s->key : NULL };
	_cleanup_(freep)
	char *query = NULL;
	struct answer answer;
	int r;

	if ((r = farm_open(s->c, deadline_ms, err)) < 0 ||
	    (r = make_query(s, &query, err)) < 0)
		return r;
	req.query = query;
	r = farm_request(s->c, &req, &answer, early, err);
	if (r == 0) {
		/* It becomes a header again, so it must be able to. */
		if (!str_is_token(answer.headers.key, sizeof(s->key) - 1))
			answer.headers.key[0] = '\0';
		str_copy(s->key, sizeof(s->key), answer.headers.key);
	}
	answer_done(&answer);
	return r;
}

/* One connection from its start to its end; the viewer is running. */
static int
connect_once(struct session *s, bool resume, int64_t deadline_ms,
    enum relay_end *ret, struct err *err)
{
	_cleanup_(early_done)
	struct buf early = BUF(CLIENT_EARLY_MAX);
	int r;

	s->started = false;
	r = viewer_wait_ready(
	    &s->viewer, s->c->cancel_fd, time_now_ms() + DISPLAY_MS, err);
	if (r < 0)
		return r;
	if ((r = open_session(s, resume, deadline_ms, &early, err)) < 0)
		return r;
	client_event(s->c, QVD_EVENT_CONNECTED, NULL, 0);
	if ((r = viewer_go(&s->viewer, err)) == 0)
		r = relay_run(
		    &s->c->conn, &s->viewer, &early, on_started, s, ret, err);
	s->closed = conn_was_closed(&s->c->conn);
	conn_close(&s->c->conn);
	return r;
}

/* A token logs in again where a password can't: one-time passwords. Without
 * one the password has to do. */
static int
get_token(struct session *s, struct err *err)
{
	struct qvd_client *c = s->c;
	char *token = NULL;
	int r;

	if (c->token != NULL || s->o->reconnect_ms < 0)
		return 0;
	r = farm_token(c, &token, err);
	if (r == 0)
		c->token = token;
	if (r == -ERR_AUTH || r == -ERR_CANCELLED || r == -ERR_CERTIFICATE ||
	    r == -ERR_NETWORK || r == -ERR_TLS || r == -ERR_TIMEOUT)
		return r;
	return 0;
}

/* Reconnecting */

static bool
worth_another_try(int r)
{
	switch (-r) {
	case ERR_NETWORK:
	case ERR_TLS:
	case ERR_TIMEOUT:
	case ERR_UNAVAILABLE:
	case ERR_DATABASE:
	case ERR_INTERNAL:
	case ERR_VM_LOST:
	case ERR_NO_MEMORY:
		return true;
	default:
		return false;
	}
}

static int
pause_for(struct session *s, int ms, struct err *err)
{
	struct pollfd p = { .fd = s->c->cancel_fd, .events = POLLIN };

	if (poll(&p, 1, ms) > 0)
		return err_set(err, ERR_CANCELLED, "interrupted");
	return 0;
}

/* Others may have been cut off at the same instant, a thousand of them: they
 * must not come back as one. */
static int
with_jitter(int ms)
{
	unsigned char noise = 0;

	if (getrandom(&noise, 1, GRND_NONBLOCK) != 1)
		noise = 128;
	return ms * 3 / 4 + ms * noise / 512;
}

/*
 * The token first; if the server does not take it any more (a day has
 * passed), the password, if there is one.
 */
static bool
fall_back_to_password(struct qvd_client *c, int r)
{
	if (r != -ERR_AUTH || c->token == NULL || c->password == NULL)
		return false;
	wipe_strp(&c->token);
	c->token = NULL;
	return true;
}

/* The next attempt: a new viewer, because libXcomp serves one connection. */
static int
try_again(
    struct session *s, int connect_ms, enum relay_end *ret, struct err *err)
{
	int r;

	*ret = RELAY_LOST;
	viewer_done(&s->viewer);
	if ((r = start_viewer(s, err)) < 0)
		return r;
	r = connect_once(s, true, time_now_ms() + connect_ms, ret, err);
	if (r == -ERR_ENDED) {
		*ret = RELAY_ENDED;
		return 0;
	}
	return r;
}

/*
 * The farm itself closed the connection: mostly at the session's end, when
 * the agent's good-bye came too late. The farm knows, so it is asked before
 * anybody is told of a lost link. True if that decided it.
 */
static bool
ask_the_farm(
    struct session *s, enum relay_end *ret, int *ret_r, struct err *err)
{
	struct err before = *err;

	if (!s->closed)
		return false;
	*ret_r = pause_for(s, with_jitter(PAUSE_FIRST_MS) / 4, err);
	if (*ret_r < 0)
		return true;
	*ret_r = try_again(s, ASK_CONNECT_MS, ret, err);
	if (s->started || (*ret_r == 0 && *ret == RELAY_ENDED))
		return true;
	if (*ret_r != 0 && !worth_another_try(*ret_r) && *ret_r != -ERR_AUTH)
		return true;
	*err = before;
	return false;
}

/* After a loss: until a connection has drawn again and ended in its turn,
 * or there is no use in trying. */
static int
reconnect(struct session *s, enum relay_end *ret, struct err *err)
{
	int limit = s->o->reconnect_ms != 0 ? s->o->reconnect_ms : RECONNECT_MS;
	int64_t give_up = time_now_ms() + limit;
	int pause, r;

	if (ask_the_farm(s, ret, &r, err))
		return r;
	client_event(s->c, QVD_EVENT_LOST, err->msg, 0);
	/* A link that is lost again and again is tried ever more slowly. */
	if (time_now_ms() - s->started_ms > STEADY_MS)
		s->pause_ms = PAUSE_FIRST_MS;
	for (;;) {
		pause = s->pause_ms;
		viewer_done(&s->viewer); /* no dead window meanwhile */
		client_event(s->c, QVD_EVENT_RETRY, err->msg, pause);
		if ((r = pause_for(s, with_jitter(pause), err)) < 0)
			return r;
		s->pause_ms =
		    pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : pause * 2;
		r = try_again(s, RETRY_CONNECT_MS, ret, err);
		if (s->started || (r == 0 && *ret == RELAY_ENDED))
			return r;
		if (r == 0)
			r = err_set(err, ERR_NETWORK,
			    "the link was lost before the session drew");
		if (fall_back_to_password(s->c, r))
			continue;
		if (!worth_another_try(r))
			return r;
		if (time_now_ms() > give_up)
			return err_wrap(err, r,
			    "the link is lost, and could not be opened again "
			    "for %d minutes",
			    limit / 60000);
	}
}

static int
run(struct session *s, struct err *err)
{
	int connect_ms = s->o->connect_timeout_ms > 0 ? s->o->connect_timeout_ms
						      : CONNECT_MS;
	enum relay_end end = RELAY_ENDED;
	int r;

	if ((r = start_viewer(s, err)) < 0 || (r = get_token(s, err)) < 0)
		return r;
	r = connect_once(s, false, time_now_ms() + connect_ms, &end, err);
	if (r == 0 && end == RELAY_LOST && !s->started)
		return err_set(err, ERR_SESSION,
		    "the desktop ended the session before it drew anything; "
		    "try again, or ask your administrator");
	while (r == 0 && end == RELAY_LOST) {
		err_set(err, ERR_NETWORK, "the link to the desktop is lost");
		if (s->o->reconnect_ms < 0) {
			client_event(s->c, QVD_EVENT_LOST, err->msg, 0);
			return -ERR_NETWORK;
		}
		r = reconnect(s, &end, err);
	}
	return r;
}

int
session_run(struct qvd_client *c, const struct qvd_session_options *options,
    struct err *err)
{
	struct session s = { .c = c, .o = options, .pause_ms = PAUSE_FIRST_MS };
	int r;

	viewer_init(&s.viewer);
	r = check_options(options, err);
	if (r == 0)
		r = run(&s, err);
	viewer_done(&s.viewer);
	conn_close(&c->conn);
	explicit_bzero(s.key, sizeof(s.key));
	return r;
}
