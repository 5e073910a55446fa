/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "client/cli.h"

struct cli {
	struct cli_options o;
	struct qvd_client *client;
	FILE *log;      /* --log-file */
	bool connected; /* a session was open */
};

/* What the signal handler needs. */
static struct qvd_client *running;

static void
on_signal(int signum)
{
	qvd_client_cancel(running);
}

/* The first signal ends in order, a second one at once. */
static void
catch_signals(struct qvd_client *client)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction old,
	    sa = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
	size_t i;

	running = client;
	for (i = 0; i < ARRAY_SIZE(signals); i++) {
		/* What nohup has had ignored stays so. */
		sigaction(signals[i], NULL, &old);
		if (old.sa_handler != SIG_IGN)
			sigaction(signals[i], &sa, NULL);
	}
}

static void
log_line(struct cli *cli, const char *text)
{
	char now[TIME_TEXT_MAX];

	if (cli->log != NULL)
		fprintf(cli->log, "%s %s\n", time_format(now, time_wall_us()),
		    text);
	if (cli->o.verbose)
		fprintf(stderr, "viewer: %s\n", text);
}

static void
on_event(const struct qvd_event *event, void *arg)
{
	struct cli *cli = arg;

	if (event->type == QVD_EVENT_LOG) {
		log_line(cli, event->text);
		return;
	}
	if (event->type == QVD_EVENT_CONNECTED)
		cli->connected = true;
	if (cli->o.quiet)
		return;
	switch (event->type) {
	case QVD_EVENT_PROGRESS:
		fprintf(stderr, "  %s\n", event->text);
		break;
	case QVD_EVENT_NOTICE:
		fprintf(stderr, "qvd-client: %s\n", event->text);
		break;
	case QVD_EVENT_STARTED:
		fputs("Connected.\n", stderr);
		break;
	case QVD_EVENT_RETRY:
		fprintf(stderr,
		    "%s; trying again in %.1f s (Ctrl-C gives up)\n",
		    event->text, event->pause_ms / 1000.0);
		break;
	default:
		break;
	}
	fflush(stderr);
}

/* Beside ourselves in a build tree; else where it was installed. */
static char *
find_program_dir(void)
{
	char self[4096], *path, *dir;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return NULL;
	self[n] = '\0';
	dir = dirname(self);
	path = xasprintf("%s/qvd-client-nx", dir);
	if (access(path, X_OK) < 0) {
		free(path);
		return NULL;
	}
	free(path);
	return xstrdup(dir);
}

static void
set_error(struct qvd_error *error, const struct err *err)
{
	error->code = err_exit_code(err->code);
	str_copy(error->id, sizeof(error->id), err_id(err->code));
	str_copy(error->message, sizeof(error->message), err->msg);
}

static int
usage_error(struct qvd_error *error, enum err_code code, const char *sentence)
{
	struct err err = { 0 };

	err_set(&err, code, "%s", sentence);
	set_error(error, &err);
	return -error->code;
}

/* Choosing the desktop */

/* Names of the list, for a sentence. */
static void
name_all(const struct qvd_list *list, char *dst, size_t size)
{
	size_t i, n = 0;

	dst[0] = '\0';
	for (i = 0; i < qvd_list_count(list) && n < size; i++)
		n += (size_t)snprintf(dst + n, size - n, "%s'%s'",
		    i == 0 ? "" : ", ", qvd_list_get(list, i)->name);
}

static int
the_only_one(const struct qvd_list *list, int64_t *ret, struct qvd_error *error)
{
	char names[400], text[600];

	if (qvd_list_count(list) == 1) {
		*ret = qvd_list_get(list, 0)->id;
		return 0;
	}
	if (qvd_list_count(list) == 0)
		return usage_error(error, ERR_NOT_FOUND,
		    "you have no desktop; ask your administrator");
	name_all(list, names, sizeof(names));
	snprintf(text, sizeof(text),
	    "you have several desktops; choose one with --vm: %s", names);
	return usage_error(error, ERR_USAGE, text);
}

static bool
find_name(const struct qvd_list *list, const char *name, int64_t *ret)
{
	size_t i;

	for (i = 0; i < qvd_list_count(list); i++)
		if (str_eq(qvd_list_get(list, i)->name, name)) {
			*ret = qvd_list_get(list, i)->id;
			return true;
		}
	return false;
}

static void
list_freep(struct qvd_list **list)
{
	qvd_list_free(*list);
}

static int
choose(struct cli *cli, int64_t *ret, struct qvd_error *error)
{
	_cleanup_(list_freep)
	struct qvd_list *desktops = NULL;
	_cleanup_(list_freep)
	struct qvd_list *applications = NULL;
	const char *vm = cli->o.vm;
	char text[300];
	int r;

	if (vm != NULL && str_to_i64(vm, 1, INT64_MAX, ret))
		return 0;
	r = qvd_client_list(cli->client, QVD_DESKTOPS, &desktops, error);
	if (r < 0)
		return r;
	if (vm == NULL)
		return the_only_one(desktops, ret, error);
	if (find_name(desktops, vm, ret))
		return 0;
	r = qvd_client_list(
	    cli->client, QVD_APPLICATIONS, &applications, error);
	if (r < 0)
		return r;
	if (find_name(applications, vm, ret))
		return 0;
	snprintf(
	    text, sizeof(text), "you have no desktop '%.100s'; see --list", vm);
	return usage_error(error, ERR_NOT_FOUND, text);
}

/* Actions */

static int
do_list(struct cli *cli, struct qvd_error *error)
{
	_cleanup_(list_freep)
	struct qvd_list *desktops = NULL;
	_cleanup_(list_freep)
	struct qvd_list *applications = NULL;
	const struct qvd_list *both[2];
	int r;

	r = qvd_client_list(cli->client, QVD_DESKTOPS, &desktops, error);
	if (r == 0)
		r = qvd_client_list(
		    cli->client, QVD_APPLICATIONS, &applications, error);
	if (r < 0)
		return r;
	both[0] = desktops;
	both[1] = applications;
	cli_print_list(&cli->o, both, 2);
	return 0;
}

static int
do_stop(struct cli *cli, struct qvd_error *error)
{
	int64_t id;
	int r;

	if ((r = choose(cli, &id, error)) == 0)
		r = qvd_client_stop(cli->client, id, error);
	if (r == 0 && !cli->o.quiet)
		fprintf(stderr, "Desktop %lld is stopped.\n", (long long)id);
	return r;
}

static int
do_token(struct cli *cli, struct qvd_error *error)
{
	char *token = NULL;
	int r = qvd_client_token(cli->client, &token, error);

	if (r == 0)
		cli_print_token(&cli->o, token);
	qvd_secret_free(token);
	return r;
}

/*
 * What the user said, else what the screen suggests. Without a window
 * manager (a kiosk) a window can be neither moved nor sized, and the agent
 * ignores its size: then the desktop is the screen.
 */
static void
choose_size(struct cli *cli, const struct cli_screen *screen,
    struct qvd_session_options *s, char *geometry, size_t size)
{
	int part;

	s->fullscreen = cli->o.fullscreen;
	s->geometry = cli->o.geometry;
	if (screen->width < 64 || screen->height < 64)
		return;
	snprintf(geometry, size, "%dx%d", screen->width, screen->height);
	if (!screen->managed &&
	    (s->geometry == NULL || str_eq(s->geometry, geometry)))
		s->fullscreen = true;
	if (s->geometry != NULL)
		return;
	part = s->fullscreen ? 5 : 4;
	snprintf(geometry, size, "%dx%d", screen->width * part / 5,
	    screen->height * part / 5);
	s->geometry = geometry;
}

static int
do_connect(struct cli *cli, struct qvd_error *error)
{
	struct qvd_session_options s = QVD_SESSION_OPTIONS_INIT;
	struct cli_screen screen;
	char geometry[32];
	int r;

	cli_screen_get(&screen);
	choose_size(cli, &screen, &s, geometry, sizeof(geometry));
	s.keyboard = cli->o.keyboard;
	if (s.keyboard == NULL && screen.keyboard[0] != '\0')
		s.keyboard = screen.keyboard;
	s.link = cli->o.link;
	s.params = cli->o.params;
	s.reconnect_ms = cli->o.reconnect_ms;
	if ((r = choose(cli, &s.vm_id, error)) == 0)
		r = qvd_client_run(cli->client, &s, error);
	/* Going away from an open session is what was asked for. */
	if (r == -QVD_CANCELLED && cli->connected) {
		if (!cli->o.quiet)
			fputs("Disconnected; the session waits in your "
			      "desktop.\n",
			    stderr);
		return 0;
	}
	if (r == 0 && !cli->o.quiet)
		fputs("The session has ended.\n", stderr);
	return r;
}

static int
open_log(struct cli *cli, struct err *err)
{
	int fd;

	if (cli->o.log_file == NULL)
		return 0;
	fd = open(
	    cli->o.log_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || (cli->log = fdopen(fd, "a")) == NULL)
		return err_errno(err, ERR_SYSTEM, errno,
		    "write the log file '%s'", cli->o.log_file);
	setvbuf(cli->log, NULL, _IOLBF, 0);
	return 0;
}

static int
act(struct cli *cli, struct qvd_error *error)
{
	static int (*const actions[])(struct cli *, struct qvd_error *) = {
		[CLI_CONNECT] = do_connect,
		[CLI_LIST] = do_list,
		[CLI_STOP] = do_stop,
		[CLI_TOKEN] = do_token,
	};
	struct qvd_client_options c = QVD_CLIENT_OPTIONS_INIT;
	_cleanup_(freep)
	char *dir = find_program_dir();
	int r;

	c.host = cli->o.host;
	c.port = cli->o.port;
	c.user = cli->o.user;
	c.password = cli->o.password;
	c.token = cli->o.token;
	c.ca_file = cli->o.ca_file;
	c.flags = cli->o.trust_first_use ? QVD_TRUST_FIRST_USE : 0;
	c.program_dir = dir;
	c.on_event = on_event;
	c.arg = cli;
	if ((r = qvd_client_new(&c, &cli->client, error)) < 0)
		return r;
	cli_options_done(&cli->o); /* the library has its own copies */
	catch_signals(cli->client);
	return actions[cli->o.action](cli, error);
}

int
main(int argc, char **argv)
{
	struct qvd_error error = QVD_ERROR_INIT;
	struct cli cli = { 0 };
	struct err err = { 0 };
	int r;

	prctl(PR_SET_DUMPABLE, 0); /* it holds a password */
	r = cli_options_parse(&cli.o, argc, argv, &err);
	if (r > 0)
		return 0;
	if (r < 0 || (r = cli_secret_get(&cli.o, &err)) < 0 ||
	    (r = open_log(&cli, &err)) < 0)
		set_error(&error, &err);
	else
		r = act(&cli, &error);
	if (r < 0)
		cli_print_error(&cli.o, &error);
	fclosep(&cli.log);
	cli_options_done(&cli.o);
	return r < 0 ? error.code : 0;
	/* The client object goes with the process: a signal may still come. */
}
