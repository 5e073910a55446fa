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

struct parse {
	const struct conf_key *table;
	void *out;
	struct err *err;
	const char *name;
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
	else if (store(k, p->out, value, p->err) == 0)
		return 1;
	p->failed = true;
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
	struct parse p = { table, out, err, name, false };
	int r, line;

	if ((r = set_defaults(table, out, err)) < 0)
		return r;
	line = ini_parse_string(text, on_value, &p);
	if (line == 0)
		return 0;
	if (!p.failed)
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
