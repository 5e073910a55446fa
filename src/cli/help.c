/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `qvd help`, and the manual's list of commands: both are the tables of the
 * nouns, printed. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "model/config.h"
#include "model/node_conf.h"

static bool
is_option(const struct arg *arg)
{
	return str_starts(arg->name, "--");
}

/* "[--osf OSF]", "VM..." */
static int
usage_word(char *dst, size_t size, const struct arg *a)
{
	bool required = (a->flags & ARG_REQUIRED) != 0;
	const char *more = (a->flags & ARG_MANY) != 0 ? "..." : "";

	if (!is_option(a))
		return snprintf(
		    dst, size, required ? "%s%s" : "[%s%s]", a->name, more);
	if (a->type == ARG_FLAG)
		return snprintf(dst, size, "[%s]", a->name);
	return snprintf(dst, size, required ? "%s %s%s" : "[%s %s]%s", a->name,
	    arg_meta(a), more);
}

static void
print_usage(const struct noun *noun, const struct command *command)
{
	const struct arg *a;
	char word[128];
	int at, pass;

	at = printf("usage: qvd %s%s%s", noun->name,
	    *command->verb != '\0' ? " " : "", command->verb);
	for (pass = 0; pass < 2; pass++) {
		for (a = command->args; a != NULL && a->name != NULL; a++) {
			if (is_option(a) != (pass == 1))
				continue;
			usage_word(word, sizeof(word), a);
			if (at + 1 + (int)strlen(word) > 79)
				at = printf("\n           ") - 1;
			at += printf(" %s", word);
		}
	}
	printf("\n");
}

/* Text from a column on, broken at words. */
static void
print_wrapped(const char *s, int indent)
{
	int at = indent, len;

	for (; *s != '\0'; s += len) {
		s += strspn(s, " ");
		len = (int)strcspn(s, " ");
		if (at + 1 + len > 79 && at > indent) {
			printf("\n%*s", indent, "");
			at = indent;
		} else if (at > indent) {
			at += printf(" ");
		}
		at += printf("%.*s", len, s);
	}
}

/* What an argument is, with the words that it may be. */
static void
arg_doc(const struct arg *a, char *dst, size_t size)
{
	size_t len = (size_t)snprintf(dst, size, "%s", a->doc);
	int i;

	if (a->words == NULL)
		return;
	for (i = 0; i < a->words->count && len < size; i++)
		len += (size_t)snprintf(dst + len, size - len, "%s%s",
		    i > 0 ? ", " : " (", a->words->words[i]);
	if (len < size)
		snprintf(dst + len, size - len, ")");
}

void
help_command(const struct noun *noun, const struct command *command)
{
	const struct arg *a;
	char left[64], doc[512];

	print_usage(noun, command);
	printf("\n%s.\n", command->summary);
	if (command->doc != NULL)
		print_wrapped(command->doc, 0);
	if (command->doc != NULL)
		printf("\n");
	if (command->args != NULL)
		printf("\n");
	for (a = command->args; a != NULL && a->name != NULL; a++) {
		if (is_option(a) && a->type != ARG_FLAG)
			snprintf(
			    left, sizeof(left), "%s %s", a->name, arg_meta(a));
		else
			str_copy(left, sizeof(left), a->name);
		printf("  %-24s ", left);
		arg_doc(a, doc, sizeof(doc));
		print_wrapped(doc, 27);
		printf("\n");
	}
}

static void
print_command_line(const struct noun *noun, const struct command *c)
{
	char left[64];

	snprintf(left, sizeof(left), "qvd %s%s%s", noun->name,
	    *c->verb != '\0' ? " " : "", c->verb);
	printf("  %-24s %s\n", left, c->summary);
}

void
help_noun(const struct noun *noun)
{
	const struct command *c;

	printf("qvd %s: %s.\n\n", noun->name, noun->summary);
	for (c = noun->commands; c->verb != NULL; c++)
		print_command_line(noun, c);
	printf("\n'qvd help %s VERB' tells more.\n", noun->name);
}

void
help_all(void)
{
	const struct noun *const *n;

	printf("usage: qvd [OPTIONS] NOUN VERB [ARGUMENTS]\n\n"
	       "Administers a QVD farm through the API of this node.\n\n");
	for (n = nouns; *n != NULL; n++)
		printf("  %-12s %s\n", (*n)->name, (*n)->summary);
	printf("\n"
	       "  -o json              print what the API answers\n"
	       "  -o table             print for people (the default)\n"
	       "  -q                   print ids only\n"
	       "  --socket PATH        of the API (QVD_ADMIN_SOCKET, else\n"
	       "                       /run/qvd/api.sock)\n"
	       "  --conf FILE          node.conf (QVD_NODE_CONF, else\n"
	       "                       /etc/qvd/node.conf)\n"
	       "  --version            print the version\n"
	       "\n"
	       "Things are named by id or by name: a user alice or\n"
	       "alice@tenant, a desktop alice/desk, an OSF xfce, an image\n"
	       "xfce/VERSION or xfce:TAG.\n"
	       "'qvd help NOUN [VERB]' tells more.\n");
}

/* A sentence of ours as scdoc text: its mark-up characters escaped. */
static void
man_text(const char *s)
{
	for (; *s != '\0'; s++) {
		if (strchr("*_\\<#~[]", *s) != NULL)
			putchar('\\');
		putchar(*s);
	}
}

static void
man_command(const struct noun *noun, const struct command *c)
{
	const struct arg *a;
	char word[128], doc[512];
	int pass;

	printf(
	    "*qvd %s%s%s*", noun->name, *c->verb != '\0' ? " " : "", c->verb);
	for (pass = 0; pass < 2; pass++) {
		for (a = c->args; a != NULL && a->name != NULL; a++) {
			if (is_option(a) != (pass == 1))
				continue;
			usage_word(word, sizeof(word), a);
			putchar(' ');
			man_text(word);
		}
	}
	printf("\n\t");
	man_text(c->summary);
	printf(".");
	if (c->doc != NULL) {
		printf(" ");
		man_text(c->doc);
	}
	printf("\n\n");
	for (a = c->args; a != NULL && a->name != NULL; a++) {
		printf("\t*%s*", a->name);
		printf(" ");
		arg_doc(a, doc, sizeof(doc));
		man_text(doc);
		printf("%s\n", a[1].name != NULL ? "++" : "\n");
	}
}

static void
man_commands(void)
{
	const struct noun *const *n;
	const struct command *c;

	for (n = nouns; *n != NULL; n++) {
		printf("## %s: ", (*n)->name);
		man_text((*n)->summary);
		printf("\n\n");
		for (c = (*n)->commands; c->verb != NULL; c++)
			man_command(*n, c);
	}
}

/* [section] key, default and meaning of each line of node.conf. */
static void
man_node_conf(void)
{
	const struct conf_key *k;
	const char *section = "";

	for (k = node_conf_keys; k->key != NULL; k++) {
		if (!str_eq(section, k->section))
			printf("## [%s]\n\n", k->section);
		section = k->section;
		printf("*%s*", k->key);
		if (k->def != NULL && k->def[0] != '\0') {
			printf(" (default: ");
			man_text(k->def);
			printf(")");
		}
		printf("\n\t");
		man_text(k->doc);
		printf("\n\n");
	}
}

static void
man_settings(void)
{
	static const char *const scopes[] = {
		[CONFIG_FARM] = "",
		[CONFIG_PER_TENANT] = " A tenant may have its own.",
		[CONFIG_PER_HOST] = " A host may have its own.",
	};
	const struct config_key *k;

	for (k = config_keys; k->key != NULL; k++) {
		printf("*");
		man_text(k->key);
		printf("*");
		if (k->def[0] != '\0') {
			printf(" (default: ");
			man_text(k->def);
			printf(")");
		}
		printf("\n\t");
		man_text(k->doc);
		printf("%s\n\n", scopes[k->scope]);
	}
}

static int
help_man(const char *part, struct err *err)
{
	if (str_eq(part, "commands"))
		man_commands();
	else if (str_eq(part, "node.conf"))
		man_node_conf();
	else if (str_eq(part, "settings"))
		man_settings();
	else
		return err_set(err, ERR_USAGE,
		    "--man '%s' is not one of commands, node.conf, settings",
		    part);
	return 0;
}

int
run_help(struct cli *cli, const struct values *values, struct err *err)
{
	const char *name = value_get(values, "NOUN");
	const char *verb = value_get(values, "VERB");
	const struct command *command;
	const struct noun *noun;

	if (value_flag(values, "--man"))
		return help_man(value_get(values, "--man"), err);
	if (name == NULL) {
		help_all();
		return 0;
	}
	if ((noun = noun_find(name)) == NULL)
		return err_set(err, ERR_USAGE,
		    "no noun '%s'; 'qvd help' lists them", name);
	command = command_find(noun, verb != NULL ? verb : "");
	if (command == NULL && verb != NULL)
		return err_set(err, ERR_USAGE,
		    "'%s' has no verb '%s'; 'qvd help %s' lists them", name,
		    verb, name);
	if (command != NULL)
		help_command(noun, command);
	else
		help_noun(noun);
	return 0;
}
