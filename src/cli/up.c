/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The order of things in `qvd up`: start PostgreSQL, migrate, start the
 * daemons, say "ready", and at the end the same backwards. */
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/nouns.h"
#include "cli/up.h"

#define PROBE_FIRST_MS  20
#define PROBE_LAST_MS   250
#define L7R_PATIENCE_MS 10000
#define VMS_PATIENCE_MS 45000
#define END_PATIENCE_MS 20000
#define PG_PATIENCE_MS  60000

void
up_fail(struct up *up, const struct err *err)
{
	if (up->result == 0) {
		up->err = *err;
		up->result = -(int)err->code;
	}
	if (up->phase < UP_STOP_L7R) {
		up->options.keep_desktops = true;
		up->phase = UP_STOP_L7R;
		service_stop(
		    &up->services[SERVICE_L7R], SIGTERM, L7R_PATIENCE_MS);
		up_stop_next(up);
	}
}

static bool
unix_answers(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_(closep)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || !str_copy(sa.sun_path, sizeof(sa.sun_path), path))
		return false;
	return connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
}

/* On this machine a connection is answered, or refused, at once. */
static bool
tcp_answers(const char *address)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *ai = NULL;
	const char *colon = strrchr(address, ':');
	char host[128];
	bool yes = false;
	size_t len;
	int fd;

	len = colon != NULL ? (size_t)(colon - address) : 0;
	if (colon == NULL || len >= sizeof(host))
		return false;
	if (len >= 2 && address[0] == '[') {
		address++;
		len -= 2;
	}
	snprintf(host, sizeof(host), "%.*s", (int)len, address);
	if (host[0] == '\0' || str_eq(host, "*"))
		str_copy(host, sizeof(host), "127.0.0.1");
	if (getaddrinfo(host, colon + 1, &hints, &ai) != 0)
		return false;
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		yes = connect(fd, ai->ai_addr, ai->ai_addrlen) == 0;
		close(fd);
	}
	freeaddrinfo(ai);
	return yes;
}

static bool
daemons_ready(struct up *up)
{
	_cleanup_(freep)
	char *sock = node_conf_run_path(&up->conf, "api.sock");

	if (up->services[SERVICE_HKD].wanted && !up->hkd_running) {
		up_db_probe(up);
		return false;
	}
	if (up->services[SERVICE_API].wanted && !unix_answers(sock))
		return false;
	return !up->services[SERVICE_L7R].wanted ||
	       tcp_answers(up->conf.listen);
}

static void
say_ready(struct up *up)
{
	ssize_t w _unused_;

	printf("ready: clients connect to %s, administrators use "
	       "QVD_ADMIN_SOCKET=%s/api.sock\n",
	    up->conf.listen, up->conf.run_dir);
	fflush(stdout);
	log_info("the farm is ready");
	if (up->options.ready_fd >= 0) {
		w = write(up->options.ready_fd, "1", 1);
		close(up->options.ready_fd);
		up->options.ready_fd = -1;
	}
}

static void
give_desktops_up(const struct up *up)
{
	if (up->desktops_left < 0)
		log_warn("the database doesn't say whether desktops run; "
			 "leaving those that do");
	else
		log_warn("no desktop has stopped for %d s; leaving the %lld "
			 "that run",
		    VMS_PATIENCE_MS / 1000, (long long)up->desktops_left);
}

/* While starting: looks at the daemons, seldomer and seldomer. */
static void
on_timer(void *arg)
{
	struct up *up = arg;

	if (up->phase != UP_STARTING) {
		if (up->phase == UP_STOP_VMS)
			give_desktops_up(up);
		up_stop_next(up);
		return;
	}
	if (daemons_ready(up)) {
		up->phase = UP_READY;
		say_ready(up);
		return;
	}
	up->probe_ms =
	    up->probe_ms * 2 > PROBE_LAST_MS ? PROBE_LAST_MS : up->probe_ms * 2;
	timer_start(&up->timer, up->probe_ms);
}

void
up_prepared(struct up *up)
{
	int i;

	if (up->prepared || up->phase != UP_STARTING)
		return;
	up->prepared = true;
	for (i = SERVICE_HKD; i < SERVICE_COUNT_; i++)
		if (up->services[i].wanted)
			service_enable(&up->services[i]);
	up->probe_ms = PROBE_FIRST_MS;
	timer_start(&up->timer, up->probe_ms);
}

static void
stop_daemons(struct up *up)
{
	up->phase = UP_STOP_DAEMONS;
	timer_stop(&up->timer);
	service_stop(&up->services[SERVICE_HKD], SIGTERM, END_PATIENCE_MS);
	service_stop(&up->services[SERVICE_API], SIGTERM, END_PATIENCE_MS);
}

/* Moves on as far as it can: a phase of stopping ends when what it stops is
 * gone, or by its patience. */
void
up_stop_next(struct up *up)
{
	struct service *s = up->services;

	if (up->phase == UP_STOP_L7R && service_gone(&s[SERVICE_L7R])) {
		if (up->options.keep_desktops || up->db == NULL ||
		    !up->prepared || !s[SERVICE_HKD].wanted) {
			stop_daemons(up);
		} else {
			up->phase = UP_STOP_VMS;
			timer_start(&up->timer, VMS_PATIENCE_MS);
			up_db_stop_vms(up); /* comes back here when done */
			return;
		}
	} else if (up->phase == UP_STOP_VMS) {
		stop_daemons(up);
	}
	if (up->phase == UP_STOP_DAEMONS && service_gone(&s[SERVICE_HKD]) &&
	    service_gone(&s[SERVICE_API])) {
		up->phase = UP_STOP_PG;
		if (up->db != NULL)
			db_free(up->db);
		up->db = NULL;
		/* INT: PostgreSQL's fast shutdown. */
		service_stop(&s[SERVICE_PG], SIGINT, PG_PATIENCE_MS);
	}
	if (up->phase == UP_STOP_PG && service_gone(&s[SERVICE_PG]))
		loop_stop(up->loop);
}

/* Patience is with one desktop: hundreds may take minutes. */
void
up_desktops_left(struct up *up, int64_t n)
{
	if (n > 0 && up->desktops_left > n)
		timer_start(&up->timer, VMS_PATIENCE_MS);
	up->desktops_left = n;
	if (n == 0)
		up_stop_next(up);
}

static void
on_signal(int signum, void *arg)
{
	struct up *up = arg;

	if (up->phase >= UP_STOP_L7R) {
		/* Asked again: no more patience with the desktops. */
		if (up->phase == UP_STOP_VMS)
			up_stop_next(up);
		return;
	}
	log_info("stopping%s",
	    up->options.keep_desktops ? "; the desktops stay" : "");
	timer_stop(&up->timer);
	up->phase = UP_STOP_L7R;
	service_stop(&up->services[SERVICE_L7R], SIGTERM, L7R_PATIENCE_MS);
	up_stop_next(up);
}

static int
choose_daemons(struct up *up, struct err *err)
{
	static const char *const words[] = { [SERVICE_HKD] = "hkd",
		[SERVICE_L7R] = "l7r",
		[SERVICE_API] = "api" };
	const char *p = up->options.daemons;
	size_t len;
	int i;

	while (*p != '\0') {
		len = strcspn(p, ",");
		for (i = SERVICE_HKD; i < SERVICE_COUNT_; i++)
			if (strlen(words[i]) == len &&
			    strncmp(words[i], p, len) == 0)
				break;
		if (i == SERVICE_COUNT_)
			return err_set(err, ERR_USAGE,
			    "--daemons: '%.*s' is not one of hkd, l7r, api",
			    (int)len, p);
		up->services[i].wanted = true;
		p += len + (p[len] == ',');
	}
	return 0;
}

static void
up_init(struct up *up)
{
	static const char *const names[] = { [SERVICE_PG] = "postgres",
		[SERVICE_HKD] = "qvd-hkd",
		[SERVICE_L7R] = "qvd-l7r",
		[SERVICE_API] = "qvd-api" };
	int i;

	up->lock_fd = -1;
	up->desktops_left = -1;
	up->loop = loop_new();
	timer_init(&up->timer, up->loop, on_timer, up);
	for (i = 0; i < SERVICE_COUNT_; i++) {
		up->services[i].up = up;
		up->services[i].name = names[i];
	}
	sigwatch_init(&up->term, up->loop, SIGTERM, on_signal, up);
	sigwatch_init(&up->interrupt, up->loop, SIGINT, on_signal, up);
}

static void
up_done(struct up *up)
{
	int i;

	for (i = 0; i < SERVICE_COUNT_; i++)
		if (up->services[i].timer.loop != NULL)
			timer_done(&up->services[i].timer);
	if (up->db != NULL)
		db_free(up->db);
	timer_done(&up->timer);
	sigwatch_done(&up->term);
	sigwatch_done(&up->interrupt);
	loop_free(up->loop);
	node_conf_done(&up->conf);
	free(up->conf_path);
	free(up->pg_bin);
	closep(&up->lock_fd);
}

static int
up_run(struct up *up, struct err *err)
{
	int r;

	if ((r = choose_daemons(up, err)) < 0 ||
	    (r = up_configure(up, err)) < 0 || (r = up_folders(up, err)) < 0 ||
	    (r = up_lock(up, err)) < 0 || (r = up_certificate(up, err)) < 0)
		return r;
	if (up->private_pg && (r = pg_prepare(up, err)) < 0)
		return r;
	if (up->private_pg)
		service_enable(&up->services[SERVICE_PG]);
	if ((r = up_db_open(up, err)) < 0)
		return r;
	loop_run(up->loop);
	if (up->desktops_left == 0)
		up_clean(up);
	if (up->result < 0)
		*err = up->err;
	else
		log_info("stopped");
	return up->result;
}

static int
run_up(struct cli *cli, const struct values *values, struct err *err)
{
	const char *daemons = value_get(values, "--daemons");
	const char *ready = value_get(values, "--ready-fd");
	struct up up = { .options = {
			     .conf = cli->conf,
			     .data = value_get(values, "--data"),
			     .run = value_get(values, "--run"),
			     .listen = value_get(values, "--listen"),
			     .name = value_get(values, "--name"),
			     .netns = value_get(values, "--netns"),
			     .cgroup = value_get(values, "--cgroup"),
			     .daemons =
				 daemons != NULL ? daemons : "hkd,l7r,api",
			     .ready_fd = -1,
			     .keep_desktops =
				 value_flag(values, "--keep-desktops"),
			 } };
	int r;

	if (geteuid() != 0)
		return err_set(err, ERR_FORBIDDEN,
		    "a farm needs root: containers, mounts, firewall; try "
		    "sudo qvd up");
	if (ready != NULL && !str_to_int(ready, 3, 65535, &up.options.ready_fd))
		return err_set(err, ERR_USAGE,
		    "--ready-fd: '%s' is not a descriptor from 3 up", ready);
	umask(022);
	log_init("up");
	up_init(&up);
	r = up_run(&up, err);
	up_done(&up);
	return r;
}

static const struct arg args[] = {
	{ "--data", ARG_TEXT, 0, .meta = "DIR",
	    .doc = "images, desktops' files, database (default "
		   "/var/lib/qvd)" },
	{ "--run", ARG_TEXT, 0, .meta = "DIR",
	    .doc = "sockets (default /run/qvd, or DATA/run with --data)" },
	{ "--listen", ARG_TEXT, 0, .meta = "ADDRESS:PORT",
	    .doc = "the clients' port (default *:8443)" },
	{ "--name", ARG_NAME, 0,
	    .doc = "this host's name in the farm (default: its host name)" },
	{ "--netns", ARG_NAME, 0,
	    .doc = "a network namespace for bridge and desktops; without "
		   "it they use the host's network" },
	{ "--cgroup", ARG_NAME, 0,
	    .doc = "the top cgroup of the desktops (default qvd)" },
	{ "--keep-desktops", ARG_FLAG, 0,
	    .doc = "leaves the desktops running at the end; the next "
		   "'qvd up' finds them" },
	{ "--daemons", ARG_TEXT, 0, .meta = "LIST",
	    .doc = "only these of hkd,l7r,api" },
	{ "--ready-fd", ARG_NUMBER, 0,
	    .doc = "writes a byte to this descriptor when all is ready" },
	ARG_END,
};

static const struct command commands[] = {
	{ "", run_up, args, "Runs a farm of one node, until it is ended",
	    "Makes what is missing: folders, node.conf, a certificate, a "
	    "private PostgreSQL. The options go into node.conf when that is "
	    "made. The log of all daemons is on standard error; a daemon "
	    "that ends is started again. TERM and INT end it, and stop the "
	    "desktops." },
	{ .verb = NULL },
};

const struct noun noun_up = { "up", NULL, NULL, commands,
	"a farm of one node, in the foreground" };
