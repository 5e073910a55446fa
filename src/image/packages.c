/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "image/packages.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define FIELD_MAX 256 /* longer names and versions are no Debian's */

/* What of a paragraph counts. */
struct paragraph {
	char package[FIELD_MAX];
	char architecture[FIELD_MAX];
	char version[FIELD_MAX];
	char status[FIELD_MAX];
	char size[FIELD_MAX];
};

static const struct {
	const char *key;
	size_t offset;
} wanted[] = {
	{ "Package", offsetof(struct paragraph, package) },
	{ "Architecture", offsetof(struct paragraph, architecture) },
	{ "Version", offsetof(struct paragraph, version) },
	{ "Status", offsetof(struct paragraph, status) },
	{ "Installed-Size", offsetof(struct paragraph, size) },
};

/* "Key: value" into the paragraph; other keys, and values that are too long
 * or no plain text, leave it as it is. */
static void
take_line(const char *line, size_t len, struct paragraph *p)
{
	const char *colon = memchr(line, ':', len), *value;
	size_t i, klen, vlen;

	if (colon == NULL || line[0] == ' ' || line[0] == '\t')
		return;
	klen = (size_t)(colon - line);
	value = colon + 1;
	while (value < line + len && *value == ' ')
		value++;
	vlen = (size_t)(line + len - value);
	if (vlen == 0 || vlen >= FIELD_MAX || memchr(value, '\0', vlen) != NULL)
		return;
	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		char *to = (char *)p + wanted[i].offset;

		if (strlen(wanted[i].key) != klen ||
		    memcmp(line, wanted[i].key, klen) != 0)
			continue;
		memcpy(to, value, vlen);
		to[vlen] = '\0';
		if (!str_is_text(to, FIELD_MAX))
			to[0] = '\0';
	}
}

static void
end_paragraph(struct paragraph *p, struct packages *to, size_t *cap)
{
	int64_t kib = 0;

	if (p->package[0] != '\0' && p->version[0] != '\0' &&
	    str_ends(p->status, " installed") && to->n < PACKAGES_MAX) {
		if (to->n == *cap) {
			*cap = *cap * 2 + 64;
			to->list = xrealloc(to->list, *cap, sizeof(*to->list));
		}
		str_to_i64(p->size, 0, INT64_C(1) << 40, &kib);
		to->list[to->n++] = (struct package){
			.name = xasprintf("%s%s%s", p->package,
			    p->architecture[0] != '\0' ? ":" : "",
			    p->architecture),
			.version = xstrdup(p->version),
			.bytes = (uint64_t)kib * 1024,
		};
	}
	*p = (struct paragraph){ .package = "" };
}

static int
compare(const void *a, const void *b)
{
	const struct package *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c != 0 ? c : strcmp(x->version, y->version);
}

static void
package_done(struct package *p)
{
	free(p->name);
	free(p->version);
}

static void
sort_and_drop_doubles(struct packages *p)
{
	size_t i, n = 0;

	if (p->n == 0)
		return;
	qsort(p->list, p->n, sizeof(*p->list), compare);
	for (i = 1; i < p->n; i++) {
		if (str_eq(p->list[i].name, p->list[n].name))
			package_done(&p->list[i]);
		else
			p->list[++n] = p->list[i];
	}
	p->n = n + 1;
}

void
packages_parse(const char *text, size_t len, struct packages *ret)
{
	struct packages found = { .n = 0 };
	struct paragraph p = { .package = "" };
	const char *end = text + len, *nl;
	size_t cap = 0;

	for (; text < end; text = nl + 1) {
		nl = memchr(text, '\n', (size_t)(end - text));
		if (nl == NULL)
			nl = end;
		if (nl == text)
			end_paragraph(&p, &found, &cap);
		else
			take_line(text, (size_t)(nl - text), &p);
	}
	end_paragraph(&p, &found, &cap);
	sort_and_drop_doubles(&found);
	*ret = found;
}

void
packages_done(struct packages *packages)
{
	size_t i;

	for (i = 0; i < packages->n; i++)
		package_done(&packages->list[i]);
	free(packages->list);
	*packages = (struct packages){ .n = 0 };
}
