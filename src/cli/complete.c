/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Completion: the shell asks `qvd --complete WORDS...` what the last word
 * can become; the answer comes from the command table and, for objects, from
 * the API (silently nothing if it doesn't answer). */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "json/json.h"
#include "model/config.h"

int
run_completion(struct cli *cli, const struct values *values, struct err *err)
{
	fputs("# bash completion of qvd; written by 'qvd completion bash'\n"
	      "_qvd() {\n"
	      "\tlocal cur words cword\n"
	      "\tif declare -F _get_comp_words_by_ref >/dev/null; then\n"
	      "\t\t_get_comp_words_by_ref -n @:= cur words cword\n"
	      "\telse\n"
	      "\t\tcur=${COMP_WORDS[COMP_CWORD]}\n"
	      "\t\twords=(\"${COMP_WORDS[@]}\") cword=$COMP_CWORD\n"
	      "\tfi\n"
	      "\tmapfile -t COMPREPLY < <(\"${words[0]}\" --complete \\\n"
	      "\t    \"${words[@]:1:cword}\" 2>/dev/null)\n"
	      "\t[ \"${COMPREPLY[0]-}\" = '//files' ] &&\n"
	      "\t    mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	      "\tdeclare -F __ltrim_colon_completions >/dev/null &&\n"
	      "\t    __ltrim_colon_completions \"$cur\"\n"
	      "}\n"
	      "complete -o bashdefault -F _qvd qvd\n",
	    stdout);
	return 0;
}

static void
offer(const char *word, const char *start)
{
	if (str_starts(word, start))
		printf("%s\n", word);
}

static void
offer_objects(struct cli *cli, const char *path, const char *start)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	json_t *item;
	size_t i;

	if (api_call(cli, "GET", path, NULL, &answer, NULL) < 0)
		return;
	json_array_foreach (json_object_get(answer, "items"), i, item)
		offer(text_clean(cli, object_name(item)), start);
}

static void
offer_values(struct cli *cli, const struct arg *arg, const char *start)
{
	const struct config_key *k;
	int i;

	if (arg->words != NULL) {
		for (i = 0; i < arg->words->count; i++)
			offer(arg->words->words[i], start);
	} else if (arg->type == ARG_BOOL) {
		offer("yes", start);
		offer("no", start);
	} else if (arg->type == ARG_FILE) {
		printf("//files\n");
	} else if (arg->type == ARG_CONFIG) {
		for (k = config_keys; k->key != NULL; k++)
			offer(k->key, start);
	} else if (api_collection(arg->type) != NULL) {
		offer_objects(cli, api_collection(arg->type), start);
	}
}

static const struct arg *
option_of(const struct command *command, const char *name)
{
	const struct arg *a;

	for (a = command->args; a != NULL && a->name != NULL; a++)
		if (str_eq(a->name, name))
			return a;
	return NULL;
}

/* The n-th positional argument (the last one if it takes many). */
static const struct arg *
positional(const struct command *command, int n)
{
	const struct arg *a;

	for (a = command->args; a != NULL && a->name != NULL; a++)
		if (!str_starts(a->name, "--") &&
		    ((a->flags & ARG_MANY) != 0 || n-- == 0))
			return a;
	return NULL;
}

static void
complete_arguments(
    struct cli *cli, const struct command *command, int n, char **words)
{
	const char *start = words[n - 1];
	const struct arg *a;
	int i, place = 0;

	for (i = 0; i < n - 1; i++) {
		a = option_of(command, words[i]);
		if (a == NULL && words[i][0] != '-')
			place++;
		if (a == NULL || a->type == ARG_FLAG)
			continue;
		if (i == n - 2) {
			offer_values(cli, a, start);
			return;
		}
		i++;
	}
	if (start[0] == '-') {
		for (a = command->args; a != NULL && a->name != NULL; a++)
			if (str_starts(a->name, "--"))
				offer(a->name, start);
		return;
	}
	if ((a = positional(command, place)) != NULL)
		offer_values(cli, a, start);
}

int
complete_words(struct cli *cli, int n, char **words)
{
	const struct command *c;
	const struct noun *noun;
	const struct noun *const *each;
	int i, left = 0;

	/* Global options are none of the command's words. */
	for (i = 0; i < n; i++) {
		if (i < n - 1 &&
		    (str_eq(words[i], "-o") || str_eq(words[i], "--conf")))
			i++;
		else if (i < n - 1 && str_eq(words[i], "--socket"))
			cli->socket = words[++i];
		else if (i == n - 1 || !str_eq(words[i], "-q"))
			words[left++] = words[i];
	}
	if (left <= 1) {
		for (each = nouns; *each != NULL; each++)
			offer((*each)->name, left == 1 ? words[0] : "");
		return 0;
	}
	if ((noun = noun_find(words[0])) == NULL)
		return 0;
	if ((c = command_find(noun, "")) != NULL) {
		complete_arguments(cli, c, left - 1, words + 1);
	} else if (left == 2) {
		for (c = noun->commands; c->verb != NULL; c++)
			offer(c->verb, words[1]);
	} else if ((c = command_find(noun, words[1])) != NULL) {
		complete_arguments(cli, c, left - 2, words + 2);
	}
	return 0;
}
