/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/conf.h"

#include <ini.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define CONF_SIZE_MAX ((size_t)1024 * 1024)
/* inih's own, INI_MAX_LINE less newline and NUL: it would take the rest of a
 * longer line for another line, silently. */
#define CONF_LINE_MAX 198

struct parse {
	const struct conf_key *table;
	void *out;
	struct err *err;
	bool *seen; /* per row of the table */
	bool failed;
};

/* Stores one value; the sentence says what would have been right. */
static int
store(const struct conf_key *k, void *out, const char *value, struct err *err)
{
	void *at = (char *)out + k->offset;

	switch (k->type) {
	case CONF_STR:
		free(*(char **)at);
		*(char **)at = xstrdup(value);
		return 0;
	case CONF_INT:
		if (str_to_int(value, k->min, k->max, at))
			return 0;
		return err_set(err, ERR_CONFIG,
		    "%s = '%s': must be a whole number from %d to %d", k->key,
		    value, k->min, k->max);
	case CONF_BOOL:
		if (str_to_bool(value, at))
			return 0;
		return err_set(err, ERR_CONFIG, "%s = '%s': must be yes or no",
		    k->key, value);
	case CONF_DURATION:
		if (str_to_duration(value, at))
			return 0;
		return err_set(err, ERR_CONFIG,
		    "%s = '%s': must be a duration such as 30s or 5m", k->key,
		    value);
	case CONF_SIZE:
		if (str_to_size(value, at))
			return 0;
		return err_set(err, ERR_CONFIG,
		    "%s = '%s': must be a size such as 512M or 2G", k->key,
		    value);
	}
	return err_set(err, ERR_INTERNAL, "unknown type of key %s", k->key);
}

static int
on_value(void *user, const char *section, const char *key, const char *value)
{
	struct parse *p = user;
	const struct conf_key *k;

	if (p->failed)
		return 0;
	for (k = p->table; k->key != NULL; k++)
		if (str_eq(k->section, section) && str_eq(k->key, key))
			break;
	if (k->key == NULL)
		err_set(p->err, ERR_CONFIG, "unknown key '%s' in [%s]", key,
		    section);
	else if (p->seen[k - p->table])
		/* Also what inih makes of an indented line: a second value. */
		err_set(p->err, ERR_CONFIG,
		    "key '%s' in [%s] twice, or its value goes on in an "
		    "indented line, which is not supported",
		    key, section);
	else if (store(k, p->out, value, p->err) == 0)
		return p->seen[k - p->table] = true;
	p->failed = true;
	return 0;
}

static bool
has_separator(const char *text, int line)
{
	for (; line > 1 && *text != '\0'; line--) {
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	return text[strcspn(text, "=:\n")] > '\n';
}

/* The number of the first line that is too long, or 0. */
static int
find_long_line(const char *text)
{
	size_t n;
	int line;

	for (line = 1; *text != '\0'; line++) {
		n = strcspn(text, "\n");
		if (n > CONF_LINE_MAX)
			return line;
		text += n + (text[n] == '\n');
	}
	return 0;
}

static int
set_defaults(const struct conf_key *table, void *out, struct err *err)
{
	const struct conf_key *k;
	int r;

	for (k = table; k->key != NULL; k++) {
		if (k->def == NULL)
			continue;
		if ((r = store(k, out, k->def, err)) < 0)
			return err_wrap(err, r, "built-in default");
	}
	return 0;
}

int
conf_parse(const char *name, const char *text, const struct conf_key *table,
    void *out, struct err *err)
{
	_cleanup_(freep)
	bool *seen = NULL;
	struct parse p = { table, out, err, NULL, false };
	const struct conf_key *k = table;
	int r, line;

	if ((line = find_long_line(text)) > 0)
		return err_set(err, ERR_CONFIG,
		    "%s line %d: longer than %d bytes", name, line,
		    CONF_LINE_MAX);
	while (k->key != NULL)
		k++;
	p.seen = seen = xcalloc((size_t)(k - table) + 1, sizeof(*seen));
	if ((r = set_defaults(table, out, err)) < 0)
		return r;
	line = ini_parse_string(text, on_value, &p);
	if (line == 0)
		return 0;
	/* inih goes on after an error: p may tell of a later line. */
	if (!p.failed || !has_separator(text, line))
		err_set(err, ERR_CONFIG, "not of the form 'key = value'");
	conf_done(table, out);
	return err_wrap(err, -ERR_CONFIG, "%s line %d", name, line);
}

int
conf_load(
    const char *path, const struct conf_key *table, void *out, struct err *err)
{
	_cleanup_(freep)
	char *text = NULL;
	int r;

	if (path == NULL)
		return set_defaults(table, out, err);
	if ((r = fs_read_file(path, CONF_SIZE_MAX, &text, NULL, err)) < 0)
		return r;
	return conf_parse(path, text, table, out, err);
}

void
conf_done(const struct conf_key *table, void *out)
{
	const struct conf_key *k;

	for (k = table; k->key != NULL; k++) {
		char **at = (void *)((char *)out + k->offset);

		if (k->type != CONF_STR)
			continue;
		free(*at);
		*at = NULL;
	}
}
