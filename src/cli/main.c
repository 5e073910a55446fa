/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd: global options, then noun and verb by the table. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"

#define ARENA_MAX      ((size_t)256 * 1024 * 1024)
#define SOCKET_DEFAULT "/run/qvd/api.sock"

/* A global option's value: "--conf FILE" or "--conf=FILE"; NULL: it is
 * another word. *i moves over what was used. */
static int
global_value(int argc, char **argv, int *i, const char *name, const char **ret,
    struct err *err)
{
	size_t len = strlen(name);

	if (strncmp(argv[*i], name, len) != 0)
		return 0;
	if (argv[*i][len] == '=' && len > 2)
		*ret = argv[*i] + len + 1;
	else if (argv[*i][len] == '\0' && *i + 1 < argc)
		*ret = argv[++*i];
	else if (argv[*i][len] == '\0')
		return err_set(err, ERR_USAGE, "%s needs a value", name);
	else
		return 0;
	return 1;
}

/* Takes the global options out of the words, wherever they stand before a
 * "--"; returns how many words are left. */
static int
take_globals(
    struct cli *cli, int argc, char **argv, bool *ret_help, struct err *err)
{
	const char *output = NULL;
	int i, n = 0, r;

	for (i = 0; i < argc; i++) {
		if (str_eq(argv[i], "--"))
			break;
		if (str_eq(argv[i], "-q") || str_eq(argv[i], "--quiet")) {
			cli->quiet = true;
			continue;
		}
		if (str_eq(argv[i], "-h") || str_eq(argv[i], "--help")) {
			*ret_help = true;
			continue;
		}
		if ((r = global_value(argc, argv, &i, "-o", &output, err)) ==
			0 &&
		    (r = global_value(
			 argc, argv, &i, "--socket", &cli->socket, err)) == 0)
			r = global_value(
			    argc, argv, &i, "--conf", &cli->conf, err);
		if (r < 0)
			return r;
		if (r == 0)
			argv[n++] = argv[i];
	}
	for (; i < argc; i++)
		argv[n++] = argv[i];
	if (output != NULL && !str_eq(output, "json") &&
	    !str_eq(output, "table"))
		return err_set(err, ERR_USAGE,
		    "-o '%s' is neither 'table' nor 'json'", output);
	cli->json = output != NULL && str_eq(output, "json");
	return n;
}

/* Runs "NOUN VERB ARGUMENTS". */
static int
dispatch(struct cli *cli, int argc, char **argv, bool help, struct err *err)
{
	const struct command *command;
	const struct noun *noun;
	_cleanup_(freep)
	struct values *values = new0(struct values);
	int used = 1, r;

	if ((noun = noun_find(argv[0])) == NULL)
		return err_set(err, ERR_USAGE,
		    "no noun '%s'; 'qvd help' lists them", argv[0]);
	command = command_find(noun, argc > 1 ? argv[1] : "");
	if (command != NULL && *command->verb != '\0')
		used = 2;
	else
		command = command_find(noun, "");
	if (help) {
		if (command != NULL)
			help_command(noun, command);
		else
			help_noun(noun);
		return 0;
	}
	if (command == NULL && argc > 1)
		return err_set(err, ERR_USAGE,
		    "'%s' has no verb '%s'; 'qvd help %s' lists them",
		    noun->name, argv[1], noun->name);
	if (command == NULL) {
		help_noun(noun);
		return 0;
	}
	r = values_parse(argc - used, argv + used, noun, command, values, err);
	return r < 0 ? r : command->run(cli, values, err);
}

static int
run(struct cli *cli, int argc, char **argv, struct err *err)
{
	bool help = false;
	int n;

	if (argc > 1 && str_eq(argv[1], "--complete"))
		return complete_words(cli, argc - 2, argv + 2);
	if ((n = take_globals(cli, argc - 1, argv + 1, &help, err)) < 0)
		return n;
	if (n > 0 && str_eq(argv[1], "--version")) {
		printf("qvd %s\n", QVD_VERSION);
		return 0;
	}
	if (n == 0) {
		help_all();
		return 0;
	}
	return dispatch(cli, n, argv + 1, help, err);
}

int
main(int argc, char **argv)
{
	struct cli cli = { .socket = getenv("QVD_ADMIN_SOCKET") };
	struct err err = { 0 };
	int r;

	signal(SIGPIPE, SIG_IGN);
	log_init("qvd");
	if (cli.socket == NULL || *cli.socket == '\0')
		cli.socket = SOCKET_DEFAULT;
	cli.arena = arena_new(ARENA_MAX);
	r = run(&cli, argc, argv, &err);
	progress_show(&cli, "");
	if (cli.curl != NULL)
		curl_easy_cleanup(cli.curl);
	arena_free(cli.arena);
	if (fflush(stdout) != 0 && r == 0)
		r = err_set(
		    &err, ERR_SYSTEM, "standard output can't be written");
	if (r < 0) {
		fprintf(stderr, "qvd: %s (%s)\n", err.msg, err_id(err.code));
		return err_exit_code(err.code);
	}
	return r;
}
