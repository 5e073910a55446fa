/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What people and scripts read: tables, objects, progress. */
#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "cli/cli.h"
#include "json/json.h"

#define COLUMNS_MAX 24

/* Text that came from elsewhere must not drive the terminal. */
const char *
text_clean(struct cli *cli, const char *s)
{
	char *copy = arena_strdup(cli->arena, s);
	unsigned char *p;

	if (copy == NULL)
		return "?";
	for (p = (unsigned char *)copy; *p != '\0'; p++) {
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
		else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
			p[0] = p[1] = '?'; /* C1: some terminals obey */
	}
	return copy;
}

const char *
text_bytes(struct cli *cli, int64_t bytes)
{
	static const char units[] = "KMGTP";
	double v = (double)bytes / 1024;
	int u = 0;

	if (bytes < 1024)
		return arena_printf(cli->arena, "%" PRId64, bytes);
	while (v >= 1024 && u < 4) {
		v /= 1024;
		u++;
	}
	return arena_printf(
	    cli->arena, v < 10 ? "%.1f%c" : "%.0f%c", v, units[u]);
}

const char *
text_duration(struct cli *cli, int64_t ms)
{
	int64_t s = ms / 1000;

	if (ms < 0)
		ms = 0;
	if (ms < 1000)
		return arena_printf(cli->arena, "%" PRId64 " ms", ms);
	if (s < 60)
		return arena_printf(cli->arena, "%.1f s", (double)ms / 1000);
	if (s < 3600)
		return arena_printf(cli->arena, "%" PRId64 " min %" PRId64 " s",
		    s / 60, s % 60);
	if (s < 86400)
		return arena_printf(cli->arena, "%" PRId64 " h %" PRId64 " min",
		    s / 3600, s % 3600 / 60);
	return arena_printf(cli->arena, "%" PRId64 " d %" PRId64 " h",
	    s / 86400, s % 86400 / 3600);
}

const char *
text_time(struct cli *cli, const char *rfc3339)
{
	char text[64];
	int64_t us;
	time_t t;
	struct tm tm;

	if (!time_parse(rfc3339, &us))
		return text_clean(cli, rfc3339);
	t = (time_t)(us / 1000000);
	localtime_r(&t, &tm);
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	return arena_strdup(cli->arena, text);
}

static const char *
text_age(struct cli *cli, const char *rfc3339)
{
	int64_t us, s;

	if (!time_parse(rfc3339, &us))
		return "";
	s = (time_wall_us() - us) / 1000000;
	if (s < 60)
		return arena_printf(cli->arena, "%" PRId64 "s", s < 0 ? 0 : s);
	if (s < 3600)
		return arena_printf(cli->arena, "%" PRId64 "m", s / 60);
	if (s < 86400)
		return arena_printf(cli->arena, "%" PRId64 "h", s / 3600);
	return arena_printf(cli->arena, "%" PRId64 "d", s / 86400);
}

/* "default, head": a list of words. */
static const char *
list_text(struct cli *cli, const json_t *list)
{
	_cleanup_(buf_done)
	struct buf text = BUF(65536);
	json_t *item;
	size_t i;

	json_array_foreach (list, i, item)
		buf_printf(&text, "%s%s", i > 0 ? ", " : "",
		    json_is_string(item) ? json_string_value(item) : "?");
	return text_clean(
	    cli, arena_strndup(cli->arena, buf_head(&text), buf_len(&text)));
}

static const char *
value_text(struct cli *cli, const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		return text_clean(cli, json_string_value(value));
	case JSON_INTEGER:
		return arena_printf(cli->arena, "%" JSON_INTEGER_FORMAT,
		    json_integer_value(value));
	case JSON_TRUE:
		return "yes";
	case JSON_FALSE:
		return "no";
	case JSON_NULL:
		return "";
	case JSON_ARRAY:
		return list_text(cli, value);
	default: {
		_cleanup_(freep)
		char *text = json_dumps(value, JSON_ENCODE_ANY);

		return text_clean(cli, text != NULL ? text : "");
	}
	}
}

static const char *
cell(struct cli *cli, const struct column *column, const json_t *item)
{
	const json_t *v = json_object_get(item, column->member);
	const char *s = json_string_value(v);

	if (v == NULL || json_is_null(v))
		return "";
	switch (column->kind) {
	case COLUMN_YES:
		return json_is_true(v) ? "yes" : "";
	case COLUMN_TIME:
		return s != NULL ? text_time(cli, s) : "";
	case COLUMN_AGE:
		return s != NULL ? text_age(cli, s) : "";
	case COLUMN_BYTES:
		return text_bytes(cli, json_integer_value(v));
	case COLUMN_MB:
		return json_integer_value(v) == 0
			   ? ""
			   : text_bytes(cli, json_integer_value(v) * 1048576);
	case COLUMN_KB:
		return json_integer_value(v) == 0
			   ? ""
			   : text_bytes(cli, json_integer_value(v) * 1024);
	case COLUMN_PERCENT:
		return json_number_value(v) < 0.05
			   ? ""
			   : arena_printf(
				 cli->arena, "%.1f", json_number_value(v));
	case COLUMN_SECONDS:
		return json_integer_value(v) == 0
			   ? ""
			   : text_duration(cli, json_integer_value(v) * 1000);
	case COLUMN_TEXT:
	case COLUMN_NUMBER:
		break;
	}
	return value_text(cli, v);
}

/* Characters, as a terminal counts them (no wide ones among our texts). */
static int
width(const char *s)
{
	int n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static bool
is_right(const struct column *c)
{
	return c->kind == COLUMN_NUMBER || c->kind == COLUMN_BYTES ||
	       c->kind == COLUMN_MB || c->kind == COLUMN_KB ||
	       c->kind == COLUMN_PERCENT || c->kind == COLUMN_SECONDS ||
	       c->kind == COLUMN_AGE;
}

/* A line of the table, without blanks at its end. */
static void
print_row(const struct column *columns, const char *const *cells, const int *w,
    const bool *out, int n)
{
	int i, gap = 0;

	for (i = 0; i < n; i++) {
		int pad = w[i] - width(cells[i]);

		if (out[i])
			continue;
		if (*cells[i] == '\0') {
			gap += w[i] + 2;
			continue;
		}
		if (is_right(&columns[i]))
			gap += pad;
		printf("%*s%s", gap, "", cells[i]);
		gap = (is_right(&columns[i]) ? 0 : pad) + 2;
	}
	printf("\n");
}

/* Columns of the terminal that it goes to; whatever else takes any line. */
static int
screen_width(void)
{
	struct winsize size;

	return isatty(STDOUT_FILENO) &&
		       ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
		       size.ws_col > 0
		   ? size.ws_col
		   : INT_MAX;
}

static int
column_of(const struct column *columns, const char *member)
{
	int i;

	for (i = 0; columns[i].title != NULL; i++)
		if (str_eq(columns[i].member, member))
			return i;
	assert(!"no such column");
	return 0;
}

/* Until the rest fits, or nothing more can be spared. */
static void
leave_out(const struct column *columns, const char *const *spare, const int *w,
    int n, bool *ret_out)
{
	int total = -2, i;

	for (i = 0; i < n; i++) {
		ret_out[i] = false;
		total += w[i] + 2;
	}
	for (; spare != NULL && *spare != NULL && total > screen_width();
	     spare++) {
		i = column_of(columns, *spare);
		ret_out[i] = true;
		total -= w[i] + 2;
	}
}

void
print_table(struct cli *cli, const struct column *columns, const json_t *items)
{
	print_wide_table(cli, columns, NULL, items);
}

void
print_wide_table(struct cli *cli, const struct column *columns,
    const char *const *spare, const json_t *items)
{
	const char *titles[COLUMNS_MAX];
	bool out[COLUMNS_MAX];
	int w[COLUMNS_MAX], n = 0, i;
	size_t row, rows = json_array_size(items);
	const char **cells;

	if (rows == 0)
		return;
	while (columns[n].title != NULL && n < COLUMNS_MAX) {
		titles[n] = columns[n].title;
		w[n] = width(columns[n].title);
		n++;
	}
	cells = xcalloc(rows * (size_t)n, sizeof(*cells));
	for (row = 0; row < rows; row++) {
		for (i = 0; i < n; i++) {
			const char *s =
			    cell(cli, &columns[i], json_array_get(items, row));

			cells[row * (size_t)n + (size_t)i] = s;
			if (width(s) > w[i])
				w[i] = width(s);
		}
	}
	leave_out(columns, spare, w, n, out);
	print_row(columns, titles, w, out, n);
	for (row = 0; row < rows; row++)
		print_row(columns, cells + row * (size_t)n, w, out, n);
	free(cells);
}

void
print_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
}

static const char *
member_text(struct cli *cli, const char *key, const json_t *value)
{
	if (json_is_string(value) &&
	    (str_ends(key, "_at") || str_ends(key, "_until")))
		return text_time(cli, json_string_value(value));
	if (json_is_integer(value) && str_ends(key, "_bytes"))
		return text_bytes(cli, json_integer_value(value));
	return value_text(cli, value);
}

void
print_object(struct cli *cli, const json_t *object)
{
	json_t *value, *obj = (json_t *)(uintptr_t)object;
	const char *key, *text;
	char *title, *p;
	int w = 0;

	json_object_foreach (obj, key, value)
		if (width(key) > w)
			w = width(key);
	json_object_foreach (obj, key, value) {
		text = member_text(cli, key, value);
		if (*text == '\0')
			continue;
		title = arena_printf(cli->arena, "%s:", key);
		for (p = title; *p != '\0'; p++)
			if (*p == '_')
				*p = ' ';
		printf("%-*s %s\n", w + 1, title, text);
	}
}

const char *
object_name(const json_t *object)
{
	return json_get_str(object, "path", json_get_str(object, "name", "?"));
}

void
print_done(struct cli *cli, const struct noun *noun, const json_t *object)
{
	int64_t id = json_get_int(object, "id", 0);

	if (cli->json)
		print_json(object);
	else if (cli->quiet)
		printf("%" PRId64 "\n", id);
	else
		printf("%s %" PRId64 " %s\n", noun->name, id,
		    text_clean(cli, object_name(object)));
}

/* Differs `now` from `before` only in a percent that is not ten larger? */
static bool
is_hardly_more(const char *before, const char *now)
{
	const char *p = before, *q = now;

	while (*p != '\0' && *p == *q) {
		p++;
		q++;
	}
	while (p > before && p[-1] >= '0' && p[-1] <= '9') {
		p--;
		q--;
	}
	before = p;
	now = q;
	p += strspn(p, "0123456789");
	q += strspn(q, "0123456789");
	/* Strings of digits, which end at the blank. */
	return str_eq(p, q) && str_starts(p, " %") &&
	       strtol(now, NULL, 10) - strtol(before, NULL, 10) < 10;
}

/* On a terminal one line that changes; elsewhere, in a log maybe, a line each,
 * but for most percents. */
void
progress_show(struct cli *cli, const char *text)
{
	if (isatty(STDERR_FILENO)) {
		if (*text != '\0' || cli->progress)
			fprintf(stderr, "\r\033[K%s", text);
		cli->progress = *text != '\0';
		return;
	}
	if (*text == '\0' || cli->quiet)
		return;
	if (cli->last_progress != NULL &&
	    (str_eq(cli->last_progress, text) ||
		is_hardly_more(cli->last_progress, text)))
		return;
	fprintf(stderr, "%s\n", text);
	cli->last_progress = arena_strdup(cli->arena, text);
}
