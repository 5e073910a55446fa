/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "client/cli.h"

enum option_id {
	OPT_HELP = 1000,
	OPT_VERSION,
	OPT_HOST,
	OPT_PORT,
	OPT_USER,
	OPT_VM,
	OPT_PASSWORD_FILE,
	OPT_LIST,
	OPT_STOP,
	OPT_TOKEN,
	OPT_OUTPUT,
	OPT_GEOMETRY,
	OPT_FULLSCREEN,
	OPT_LINK,
	OPT_KEYBOARD,
	OPT_CA,
	OPT_TRUST,
	OPT_RECONNECT,
	OPT_PARAM,
	OPT_LOG_FILE,
	OPT_VERBOSE,
	OPT_QUIET,
};

/* One table for the parser and the help. */
static const struct cli_option {
	enum option_id id;
	char letter; /* 0: none */
	const char *name;
	const char *value; /* NULL: takes none */
	const char *doc;
} table[] = {
	{ OPT_HOST, 'H', "host", "HOST",
	    "the farm: name or address (or QVD_HOST)" },
	{ OPT_PORT, 'p', "port", "PORT", "its port (or QVD_PORT; 8443)" },
	{ OPT_USER, 'u', "user", "LOGIN",
	    "who you are (or QVD_USER), also as LOGIN@TENANT" },
	{ OPT_PASSWORD_FILE, 0, "password-file", "FILE",
	    "first line is the password; only you may read it" },
	{ OPT_VM, 'm', "vm", "VM",
	    "the desktop: id or name (or QVD_VM; the only one)" },
	{ OPT_LIST, 'l', "list", NULL, "list desktops and applications" },
	{ OPT_STOP, 0, "stop", NULL,
	    "stop the desktop; what runs in it is lost" },
	{ OPT_TOKEN, 0, "create-token", NULL,
	    "print a token, good for QVD_TOKEN for a day" },
	{ OPT_OUTPUT, 'o', "output", "FORMAT", "table or json" },
	{ OPT_GEOMETRY, 'g', "geometry", "WxH",
	    "size of the window (four fifths of the screen)" },
	{ OPT_FULLSCREEN, 'f', "fullscreen", NULL, "use the whole screen" },
	{ OPT_LINK, 0, "link", "KIND",
	    "modem, isdn, adsl, wan or lan (measured)" },
	{ OPT_KEYBOARD, 'k', "keyboard", "LAYOUT",
	    "as pc105/es (the X server's)" },
	{ OPT_PARAM, 0, "param", "NAME=VALUE",
	    "for the desktop's hooks; NAME begins with custom." },
	{ OPT_CA, 0, "ca", "FILE",
	    "trust these authorities (or QVD_CA; the system's)" },
	{ OPT_TRUST, 0, "trust-first-use", NULL,
	    "remember an unknown server's certificate" },
	{ OPT_RECONNECT, 0, "reconnect", "TIME",
	    "try so long after a lost link (30m); 0: never" },
	{ OPT_LOG_FILE, 0, "log-file", "FILE", "add the viewer's log to it" },
	{ OPT_VERBOSE, 'v', "verbose", NULL, "show the viewer's log" },
	{ OPT_QUIET, 'q', "quiet", NULL, "show errors only" },
	{ OPT_HELP, 'h', "help", NULL, "this text" },
	{ OPT_VERSION, 'V', "version", NULL, "the version" },
};

static void
print_help(void)
{
	char left[48];
	size_t i;

	printf("Usage: qvd-client [connect|list|stop|token] [options] "
	       "[HOST[:PORT]] [VM]\n"
	       "Shows a QVD desktop on $DISPLAY, lists or stops desktops.\n\n");
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		snprintf(left, sizeof(left), "%c%c%s --%s%s%s",
		    table[i].letter != 0 ? '-' : ' ',
		    table[i].letter != 0 ? table[i].letter : ' ',
		    table[i].letter != 0 ? "," : " ", table[i].name,
		    table[i].value != NULL ? " " : "",
		    table[i].value != NULL ? table[i].value : "");
		printf("  %-26s %s\n", left, table[i].doc);
	}
	printf("\nThe password is asked for, or read from --password-file or "
	       "QVD_PASSWORD.\nA token in QVD_TOKEN logs in instead. "
	       "The manual: man qvd-client\n");
}

static int
set_port(struct cli_options *o, const char *value, struct err *err)
{
	if (str_to_int(value, 1, 65535, &o->port))
		return 0;
	return err_set(
	    err, ERR_USAGE, "port '%s' is not a number of 1 to 65535", value);
}

static int
set_output(struct cli_options *o, const char *value, struct err *err)
{
	o->json = str_eq(value, "json");
	if (o->json || str_eq(value, "table"))
		return 0;
	return err_set(
	    err, ERR_USAGE, "output '%s' is neither table nor json", value);
}

static int
set_reconnect(struct cli_options *o, const char *value, struct err *err)
{
	int64_t ms;

	if (!str_to_duration(value, &ms) || ms > INT32_MAX)
		return err_set(err, ERR_USAGE,
		    "time '%s' is not like 90s, 30m or 2h (at most 24 days)",
		    value);
	o->reconnect_ms = ms == 0 ? -1 : (int)ms;
	return 0;
}

/* Cuts the argument at its '='. */
static int
add_param(struct cli_options *o, char *arg, struct err *err)
{
	char *value = strchr(arg, '=');

	if (value == NULL || value == arg)
		return err_set(
		    err, ERR_USAGE, "parameter '%s' is not NAME=VALUE", arg);
	if (o->n_params + 2 >= (int)ARRAY_SIZE(o->params))
		return err_set(err, ERR_USAGE, "more than 64 parameters");
	*value++ = '\0';
	o->params[o->n_params++] = arg;
	o->params[o->n_params++] = value;
	o->params[o->n_params] = NULL;
	return 0;
}

static int
set_action(struct cli_options *o, enum cli_action action, struct err *err)
{
	if (o->action != CLI_CONNECT && o->action != action)
		return err_set(err, ERR_USAGE,
		    "only one of --list, --stop and --create-token");
	o->action = action;
	return 0;
}

/* style: flat (one case an option) */
static int
apply(struct cli_options *o, enum option_id id, char *value, struct err *err)
{
	switch (id) {
	case OPT_HELP:
		print_help();
		return 1;
	case OPT_VERSION:
		printf("qvd-client %s\n", qvd_client_version());
		return 1;
	case OPT_PORT:
		return set_port(o, value, err);
	case OPT_OUTPUT:
		return set_output(o, value, err);
	case OPT_RECONNECT:
		return set_reconnect(o, value, err);
	case OPT_PARAM:
		return add_param(o, value, err);
	case OPT_LIST:
		return set_action(o, CLI_LIST, err);
	case OPT_STOP:
		return set_action(o, CLI_STOP, err);
	case OPT_TOKEN:
		return set_action(o, CLI_TOKEN, err);
	case OPT_HOST:
		o->host = value;
		return 0;
	case OPT_USER:
		o->user = value;
		return 0;
	case OPT_VM:
		o->vm = value;
		return 0;
	case OPT_PASSWORD_FILE:
		o->password_file = value;
		return 0;
	case OPT_GEOMETRY:
		o->geometry = value;
		return 0;
	case OPT_FULLSCREEN:
		o->fullscreen = true;
		return 0;
	case OPT_LINK:
		o->link = str_eq(value, "auto") ? NULL : value;
		return 0;
	case OPT_KEYBOARD:
		o->keyboard = value;
		return 0;
	case OPT_CA:
		o->ca_file = value;
		return 0;
	case OPT_TRUST:
		o->trust_first_use = true;
		return 0;
	case OPT_LOG_FILE:
		o->log_file = value;
		return 0;
	case OPT_VERBOSE:
		o->verbose = true;
		return 0;
	case OPT_QUIET:
		o->quiet = true;
		return 0;
	}
	return 0;
}

static const char *
env(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

static int
from_environment(struct cli_options *o, struct err *err)
{
	const char *port = env("QVD_PORT");
	int r;

	o->host = env("QVD_HOST");
	o->user = env("QVD_USER");
	o->vm = env("QVD_VM");
	o->ca_file = env("QVD_CA");
	if (port != NULL && (r = set_port(o, port, err)) < 0)
		return err_wrap(err, r, "QVD_PORT");
	return 0;
}

static void
fill_getopt(struct option *longs, char *shorts)
{
	size_t i, n = 0;

	shorts[n++] = ':'; /* we say ourselves what is wrong */
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		longs[i] = (struct option){ .name = table[i].name,
			.has_arg = table[i].value != NULL,
			.val = (int)table[i].id };
		if (table[i].letter == 0)
			continue;
		shorts[n++] = table[i].letter;
		if (table[i].value != NULL)
			shorts[n++] = ':';
	}
	shorts[n] = '\0';
}

static enum option_id
by_letter(int c)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].letter != 0 && table[i].letter == c)
			return table[i].id;
	return (enum option_id)c;
}

/* "farm", "farm:8443", "[2001:db8::1]:8443"; cut in place. */
static int
set_host(struct cli_options *o, char *arg, struct err *err)
{
	char *port = NULL, *end;

	o->host = arg;
	if (arg[0] == '[' && (end = strchr(arg, ']')) != NULL) {
		o->host = arg + 1;
		*end = '\0';
		if (end[1] == ':')
			port = end + 2;
	} else if ((end = strchr(arg, ':')) != NULL &&
		   strchr(end + 1, ':') == NULL) {
		*end = '\0';
		port = end + 1;
	}
	return port != NULL ? set_port(o, port, err) : 0;
}

/* [ACTION] [HOST[:PORT]] [VM] */
static int
positional(struct cli_options *o, int n, char **args, struct err *err)
{
	static const struct {
		const char *word;
		enum cli_action action;
	} actions[] = {
		{ "connect", CLI_CONNECT },
		{ "list", CLI_LIST },
		{ "stop", CLI_STOP },
		{ "token", CLI_TOKEN },
	};
	size_t i;
	int at = 0, r;

	for (i = 0; n > 0 && i < ARRAY_SIZE(actions); i++)
		if (str_eq(args[0], actions[i].word)) {
			r = set_action(o, actions[i].action, err);
			if (r < 0)
				return r;
			at = 1;
			break;
		}
	if (at < n && (r = set_host(o, args[at++], err)) < 0)
		return r;
	if (at < n)
		o->vm = args[at++];
	if (at < n)
		return err_set(err, ERR_USAGE,
		    "'%s' is one word too many; see --help", args[at]);
	return 0;
}

int
cli_options_parse(struct cli_options *o, int argc, char **argv, struct err *err)
{
	struct option longs[ARRAY_SIZE(table) + 1] = { 0 };
	char shorts[2 * ARRAY_SIZE(table) + 2];
	int c, r;

	memset(o, 0, sizeof(*o));
	if ((r = from_environment(o, err)) < 0)
		return r;
	fill_getopt(longs, shorts);
	opterr = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		if (c == '?' || c == ':')
			return err_set(err, ERR_USAGE, "%s '%s'; see --help",
			    c == '?' ? "there is no option"
				     : "a value is missing after",
			    argv[optind - 1]);
		r = apply(o, by_letter(c), optarg, err);
		if (r != 0)
			return r;
	}
	if ((r = positional(o, argc - optind, argv + optind, err)) < 0)
		return r;
	if (o->host == NULL)
		return err_set(
		    err, ERR_USAGE, "which farm? Give --host or set QVD_HOST");
	return 0;
}

void
cli_options_done(struct cli_options *o)
{
	wipe_str(o->password);
	wipe_str(o->token);
	o->password = o->token = NULL;
}
