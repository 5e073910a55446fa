/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What of a desktop's root is not the system's: what lives only while it
 * runs, and the account of the user whose desktop it was. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

#define ACCOUNTS_MAX   ((size_t)4 * 1024 * 1024)
#define ACCOUNTS_BLOCK 65536

static const char *
skip_root(const char *path)
{
	while (path[0] == '/' || (path[0] == '.' && path[1] == '/'))
		path++;
	return path;
}

static bool
is_one_of(const char *path, const char *const *list, size_t n)
{
	size_t i;

	path = skip_root(path);
	for (i = 0; i < n; i++)
		if (str_eq(path, list[i]))
			return true;
	return false;
}

bool
image_is_passing(const char *path)
{
	static const char *const dirs[] = { "dev", "home", "proc", "run", "sys",
		"tmp", "var/run", "var/tmp" };

	return is_one_of(path, dirs, ARRAY_SIZE(dirs));
}

bool
image_is_of_run(const char *path)
{
	/* Name servers are the node's, and no two machines have one id. */
	static const char *const own[] = { "etc/resolv.conf", "etc/machine-id",
		"var/lib/dbus/machine-id" };
	_cleanup_(freep)
	char *above = xstrdup(skip_root(path));
	char *slash;

	while ((slash = strrchr(above, '/')) != NULL) {
		*slash = '\0';
		if (image_is_passing(above))
			return true;
	}
	return is_one_of(path, own, ARRAY_SIZE(own));
}

bool
image_is_of_node(const char *path)
{
	return image_is_of_run(path) ||
	       str_eq(skip_root(path), "usr/lib/qvd/qvd-vma");
}

bool
image_is_account_file(const char *path)
{
	static const char *const files[] = { "etc/passwd", "etc/passwd-",
		"etc/group", "etc/group-", "etc/shadow", "etc/shadow-",
		"etc/gshadow", "etc/gshadow-", "etc/subuid", "etc/subuid-",
		"etc/subgid", "etc/subgid-" };

	return is_one_of(path, files, ARRAY_SIZE(files));
}

/* Copies "a,b,c" without the name. */
static void
copy_members(struct buf *out, const char *p, size_t len, const char *login)
{
	const char *end = p + len, *comma;
	bool first = true;

	for (; p < end; p = comma + 1) {
		size_t n;

		comma = memchr(p, ',', (size_t)(end - p));
		if (comma == NULL)
			comma = end;
		n = (size_t)(comma - p);
		if (n == strlen(login) && memcmp(p, login, n) == 0)
			continue;
		if (!first)
			buf_append(out, ",", 1);
		buf_append(out, p, n);
		first = false;
	}
}

/* One line without its newline. group: its last field lists members. */
static void
copy_line(struct buf *out, const char *line, size_t len, const char *login,
    bool group)
{
	const char *colon = memchr(line, ':', len), *last;
	size_t n = colon == NULL ? len : (size_t)(colon - line);

	if (n == strlen(login) && memcmp(line, login, n) == 0)
		return;
	last = group ? memrchr(line, ':', len) : NULL;
	if (last == NULL) {
		buf_append(out, line, len);
	} else {
		n = (size_t)(last + 1 - line);
		buf_append(out, line, n);
		copy_members(out, last + 1, len - n, login);
	}
	buf_append(out, "\n", 1);
}

void
image_strip_account(struct buf *text, const char *path, const char *login)
{
	bool group =
	    strstr(path, "group") != NULL || strstr(path, "gshadow") != NULL;
	_cleanup_(buf_done)
	struct buf out = BUF(buf_len(text) + 2);
	const char *p = buf_head(text), *end = p + buf_len(text), *nl;
	size_t n = buf_len(text);

	if (login[0] == '\0')
		return;
	for (; p < end; p = nl + 1) {
		nl = memchr(p, '\n', (size_t)(end - p));
		if (nl == NULL)
			nl = end;
		copy_line(&out, p, (size_t)(nl - p), login, group);
	}
	buf_consume(text, n);
	buf_append(text, buf_head(&out), buf_len(&out));
}

static ssize_t
read_buf(void *to, size_t size, void *arg, struct err *err)
{
	struct buf *buf = arg;
	size_t n = buf_len(buf) < size ? buf_len(buf) : size;

	memcpy(to, buf_head(buf), n);
	buf_consume(buf, n);
	return (ssize_t)n;
}

int
image_add_accounts(struct image_tree *tree, const struct image_entry *entry,
    image_read_cb read, void *arg, struct err *err)
{
	struct image_entry stripped = *entry;
	_cleanup_(buf_done)
	struct buf text = BUF(ACCOUNTS_MAX);
	ssize_t n = 0;
	char *room;

	while ((room = buf_reserve(&text, ACCOUNTS_BLOCK)) != NULL &&
	       (n = read(room, ACCOUNTS_BLOCK, arg, err)) > 0)
		buf_commit(&text, (size_t)n);
	if (n < 0)
		return (int)n;
	if (room == NULL)
		return err_set(
		    err, ERR_TOO_LARGE, "'%.200s' is too large", entry->path);
	image_strip_account(&text, entry->path, tree->import->login);
	stripped.size = buf_len(&text);
	return image_tree_add(tree, &stripped, read_buf, &text, err);
}
