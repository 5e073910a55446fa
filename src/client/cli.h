/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qvd-client, the command line of libqvdclient: what the user asked for, and
 * the parts of the program. It uses the library only by its public header.
 * One process, one session.
 */
#ifndef CLIENT_CLI_H
#define CLIENT_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "qvd/client.h"

enum cli_action { CLI_CONNECT, CLI_LIST, CLI_STOP, CLI_TOKEN };

struct cli_options {
	enum cli_action action;
	const char *host;
	int port;
	const char *user;
	const char *vm; /* id or name; NULL: the only one */
	const char *password_file;
	const char *ca_file;
	const char *geometry;
	const char *link;
	const char *keyboard;
	const char *log_file;
	const char *params[2 * 64 + 1]; /* name, value, ..., NULL */
	int n_params;
	int reconnect_ms;
	bool fullscreen;
	bool trust_first_use;
	bool json;
	bool verbose;
	bool quiet;
	char *password; /* secret */
	char *token;    /* secret */
};

/* cli_options.c: from the environment and the arguments. 1: help or version
 * was printed, nothing is left to do. Strings stay the caller's. */
int cli_options_parse(
    struct cli_options *o, int argc, char **argv, struct err *err);
void cli_options_done(struct cli_options *o);

/* cli_secret.c: password or token from the environment (which is wiped), a
 * private file, or the terminal. */
int cli_secret_get(struct cli_options *o, struct err *err);

/* cli_screen.c: what the X server tells. Either may be "" */
struct cli_screen {
	char keyboard[64]; /* "pc105/es" */
	int width, height; /* 0: unknown */
	bool managed;      /* a window manager runs */
};
void cli_screen_get(struct cli_screen *ret);

/* cli_print.c */
void cli_print_list(
    const struct cli_options *o, const struct qvd_list *const *lists, size_t n);
void cli_print_token(const struct cli_options *o, const char *token);
void cli_print_error(const struct cli_options *o, const struct qvd_error *e);

#endif
