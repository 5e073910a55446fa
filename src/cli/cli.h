/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The administrator's command line. One const table of nouns, each with its
 * verbs and their arguments, gives dispatch, help, completion and the
 * manual's list of commands. struct cli is one run of the program: its
 * global options, its connection to the API, and an arena for all text that
 * lives until the end. Runs as the caller.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/enum.h"
#include "base/err.h"

struct cli {
	const char *socket; /* of the API */
	const char *conf;   /* --conf, NULL: where node.conf usually is */
	bool json;
	bool quiet;
	struct arena *arena;
	void *curl;    /* CURL *, made at the first request */
	bool progress; /* a progress line stands on the terminal */
	char *last_progress;
};

/* What an argument may be: decides its check, its help and its completion. */
enum arg_type {
	ARG_TEXT,
	ARG_NAME,     /* a new object's name */
	ARG_NUMBER,   /* within [min, max] */
	ARG_MB,       /* "512M", "2G"; a bare number is MiB */
	ARG_SECONDS,  /* "30m", "2h"; a bare number is seconds */
	ARG_DURATION, /* the same, sent as milliseconds */
	ARG_BOOL,     /* yes or no */
	ARG_FLAG,     /* present or not, takes no value */
	ARG_WORD,     /* one of words */
	ARG_FILE,     /* sent as an absolute path */
	ARG_TENANT,   /* an object by id or name; sent as its id */
	ARG_USER,
	ARG_OSF,
	ARG_IMAGE,
	ARG_VM,
	ARG_HOST,
	ARG_ROLLOUT,
	ARG_UPLOAD,
	ARG_CONFIG, /* a configuration key */
	ARG_TYPE_COUNT_
};

#define ARG_REQUIRED 1u
#define ARG_MANY     2u /* the last positional one: once or more */

struct arg {
	const char *name; /* "--osf", or "VM" for a positional one */
	enum arg_type type;
	unsigned flags;
	const char *member; /* in the request; NULL: the handler's own */
	const char *meta;   /* the value's name in help; NULL: from type */
	const struct enum_words *words;
	int64_t min, max;
	const char *doc;
};
#define ARG_END              \
	{                    \
		.name = NULL \
	}

/* Arguments of OSFs and tenants: what their desktops may reach. */
#define EGRESS_ARGS                                                       \
	{ "--egress", ARG_TEXT, 0, "egress", .meta = "POLICY",            \
		.doc = "what its VMs may reach outside of their node; "   \
		       "empty: nothing of its own" },                     \
	{                                                                 \
		"--egress-rate", ARG_NUMBER, 0, "egress_kbit",            \
		    .meta = "KBIT", .min = -1, .max = INT32_MAX,          \
		    .doc = "the most that a VM may send a second; 0: no " \
			   "limit, -1: nothing of its own"                \
	}

struct noun;
struct command;

#define VALUES_MAX 256
struct values {
	const struct noun *noun;
	const struct command *command;
	struct value {
		const struct arg *arg;
		const char *text;
	} v[VALUES_MAX];
	int n;
};

struct command {
	const char *verb; /* "" if the noun is the whole command */
	int (*run)(
	    struct cli *cli, const struct values *values, struct err *err);
	const struct arg *args; /* NULL: none */
	const char *summary;
	const char *doc; /* further sentences, or NULL */
};

/* A column of a list. */
enum column_kind {
	COLUMN_TEXT,
	COLUMN_NUMBER,
	COLUMN_YES,  /* "yes" or nothing */
	COLUMN_TIME, /* local date and time */
	COLUMN_AGE,  /* how long ago: "3 h" */
	COLUMN_BYTES,
	COLUMN_MB,
	COLUMN_KB,
	COLUMN_PERCENT, /* a real, nothing for 0 */
	COLUMN_SECONDS, /* "30 min"; nothing for 0 */
};
struct column {
	const char *title; /* NULL ends the table */
	const char *member;
	enum column_kind kind;
};
#define COLUMN_END            \
	{                     \
		.title = NULL \
	}

struct noun {
	const char *name;               /* "vm" */
	const char *path;               /* "/v1/vms" */
	const struct column *columns;   /* of `list` */
	const struct command *commands; /* ends with a NULL verb */
	const char *summary;
};

extern const struct noun *const nouns[]; /* NULL-ended, in help's order */
const struct noun *noun_find(const char *name);
const struct command *command_find(const struct noun *noun, const char *verb);

/* Arguments of a command by its table. */
int values_parse(int argc, char **argv, const struct noun *noun,
    const struct command *command, struct values *ret, struct err *err);
/* The value of that argument, NULL if it was not given. */
const char *value_get(const struct values *values, const char *name);
bool value_flag(const struct values *values, const char *name);
/* How many were given, and the i-th (arguments with ARG_MANY). */
int value_count(const struct values *values, const char *name);
const char *value_nth(const struct values *values, const char *name, int i);
/* All values that have a member, as the body of a request. Names of objects
 * become ids. */
int values_body(struct cli *cli, const struct values *values, json_t **ret,
    struct err *err);
/* The same as a query: "?user_id=3&limit=10" or "". */
int values_query(struct cli *cli, const struct values *values, const char **ret,
    struct err *err);
/* One value as it goes into a request. */
int value_to_json(struct cli *cli, const struct arg *arg, const char *text,
    json_t **ret, struct err *err);
const char *arg_meta(const struct arg *arg);

/* The API. body's reference is taken (NULL: none); it is wiped after it was
 * sent if it has a member "password". ret may be NULL. */
int api_call(struct cli *cli, const char *method, const char *path,
    json_t *body, json_t **ret, struct err *err);
/* PUT of bytes; what progress says stays. */
int api_send(struct cli *cli, const char *path, const void *data, size_t len,
    json_t **ret, struct err *err);
/* The id of an object by id or name. */
int api_id(struct cli *cli, enum arg_type type, const char *text, int64_t *ret,
    struct err *err);
/* "/v1/vms/12/start", in the arena. */
const char *api_path(
    struct cli *cli, const struct noun *noun, int64_t id, const char *rest);
/* "/v1/vms" for ARG_VM, and the word for people; NULL: no object. */
const char *api_collection(enum arg_type type);
const char *api_object_word(enum arg_type type);

/* What many nouns have in common. */
int run_list(struct cli *cli, const struct values *values, struct err *err);
int run_show(struct cli *cli, const struct values *values, struct err *err);
int run_add(struct cli *cli, const struct values *values, struct err *err);
int run_set(struct cli *cli, const struct values *values, struct err *err);
int run_del(struct cli *cli, const struct values *values, struct err *err);
int run_block(struct cli *cli, const struct values *values, struct err *err);
int run_unblock(struct cli *cli, const struct values *values, struct err *err);
/* PATCH with one member on each object of the first argument. */
int patch_each(struct cli *cli, const struct values *values, const char *member,
    json_t *value, struct err *err);
/* METHOD <object>/<rest> on each object of the first argument; what the API
 * answers is shown as by `show` with -o json, else nothing. */
int call_each(struct cli *cli, const struct values *values, const char *method,
    const char *rest, struct err *err);

/* Output. */
void print_json(const json_t *value);
void print_table(
    struct cli *cli, const struct column *columns, const json_t *items);
/* The same, where columns may be left out on a terminal that is too narrow:
 * spare (NULL-ended) has their members, the first to go first. */
void print_wide_table(struct cli *cli, const struct column *columns,
    const char *const *spare, const json_t *items);
void print_object(struct cli *cli, const json_t *object);
/* What was made or changed: "vm 3 alice@default/desk", its id with -q, the
 * whole with -o json. */
void print_done(struct cli *cli, const struct noun *noun, const json_t *object);
/* Text forms, in the arena. */
const char *text_bytes(struct cli *cli, int64_t bytes);
const char *text_duration(struct cli *cli, int64_t ms);
const char *text_time(struct cli *cli, const char *rfc3339);
const char *text_clean(struct cli *cli, const char *s);
/* How an object is called: its "path" or "name" member. */
const char *object_name(const json_t *object);

/* A line of progress on standard error; "" removes it. */
void progress_show(struct cli *cli, const char *text);

/* interrupt.c. Until interrupt_end() Ctrl-C says that text, which ends a line,
 * and ends the program; and as soon as the API has told which object it is
 * about, text_of_id (may be NULL), with its id in the place of each '#'. */
void interrupt_begin(const char *text, const char *text_of_id);
void interrupt_id(int64_t id);
/* It also removes that file; NULL: none. */
void interrupt_half(const char *file);
/* It also ends that group of processes and waits for the leader, a child; so
 * do TERM and HUP. */
void interrupt_group(pid_t leader);
void interrupt_end(void);

/* A password from --password-file, standard input or the terminal (asked
 * twice). Heap; wiped by wipe_str(). file: path, "-" or NULL. */
int password_read(
    const char *file, const char *prompt, char **ret, struct err *err);

int run_help(struct cli *cli, const struct values *values, struct err *err);
int run_completion(
    struct cli *cli, const struct values *values, struct err *err);
/* Candidates for the last of n words, one a line (hidden command). */
int complete_words(struct cli *cli, int n, char **words);
void help_command(const struct noun *noun, const struct command *command);
void help_noun(const struct noun *noun);
void help_all(void);

#endif
