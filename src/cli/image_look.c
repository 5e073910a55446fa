/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Commands that look at versions and at the store. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/image.h"
#include "json/json.h"

/* Log */

static const char *
member(struct cli *cli, const json_t *o, const char *name)
{
	return text_clean(cli, json_get_str(o, name, ""));
}

static void
print_tags(struct cli *cli, const json_t *image)
{
	const json_t *tags = json_object_get(image, "tags"), *tag;
	size_t i;

	json_array_foreach (tags, i, tag)
		printf("%s%s", i == 0 ? " (" : ", ",
		    text_clean(cli, json_string_value(tag)));
	printf("%s\n", json_array_size(tags) > 0 ? ")" : "");
}

static void
print_version(struct cli *cli, const json_t *image)
{
	const char *message = json_get_str(image, "message", NULL);
	const char *parent = member(cli, image, "parent");
	const char *step = member(cli, image, "step");

	printf("version %s", member(cli, image, "version"));
	print_tags(cli, image);
	printf("  image:   %" PRId64 ", %s%s", json_get_int(image, "id", 0),
	    member(cli, image, "state"),
	    json_get_bool(image, "blocked", false) ? ", blocked" : "");
	/* Until it has files it has none of these. */
	if (json_get_str(image, "checksum", NULL) != NULL)
		printf(", %s in %" PRId64 " files, runs on %s",
		    text_bytes(cli, json_get_int(image, "size_bytes", 0)),
		    json_get_int(image, "files", 0),
		    member(cli, image, "hypervisors"));
	else if (*step != '\0')
		printf(" %" PRId64 " %%: %s",
		    json_get_int(image, "progress", 0), step);
	printf("\n");
	if (*parent != '\0')
		printf("  parent:  %s\n", parent);
	printf("  author:  %s, %s\n", member(cli, image, "author"),
	    text_time(cli, json_get_str(image, "created_at", "")));
	if (json_get_str(image, "content", NULL) != NULL)
		printf("  content: %s\n", member(cli, image, "content"));
	if (json_get_str(image, "error", NULL) != NULL)
		printf("  error:   %s\n", member(cli, image, "error"));
	if (message != NULL)
		printf("\n      %s\n", text_clean(cli, message));
}

int
run_image_log(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	const json_t *items;
	size_t i, n;
	int64_t id;
	int r;

	if ((r = api_id(cli, ARG_OSF, value_get(values, "OSF"), &id, err)) <
		0 ||
	    (r = api_call(cli, "GET",
		 arena_printf(cli->arena, "/v1/images?osf_id=%" PRId64, id),
		 NULL, &answer, err)) < 0)
		return r;
	items = json_object_get(answer, "items");
	n = json_array_size(items);
	if (cli->json) {
		print_json(items);
		return 0;
	}
	for (i = n; i > 0; i--) {
		print_version(cli, json_array_get(items, i - 1));
		if (i > 1)
			printf("\n");
	}
	return 0;
}

/* Diff */

static const struct column package_columns[] = {
	{ "PACKAGE", "name", COLUMN_TEXT },
	{ "CHANGE", "change", COLUMN_TEXT },
	{ "OLD", "old_version", COLUMN_TEXT },
	{ "NEW", "new_version", COLUMN_TEXT },
	{ "OLD SIZE", "old_bytes", COLUMN_BYTES },
	{ "NEW SIZE", "new_bytes", COLUMN_BYTES },
	COLUMN_END,
};

static const struct column file_columns[] = {
	{ "FILE", "path", COLUMN_TEXT },
	{ "CHANGE", "change", COLUMN_TEXT },
	{ "KIND", "kind", COLUMN_TEXT },
	{ "OLD SIZE", "old_bytes", COLUMN_BYTES },
	{ "NEW SIZE", "new_bytes", COLUMN_BYTES },
	COLUMN_END,
};

static void
print_diff(struct cli *cli, const json_t *diff, bool packages_only)
{
	const json_t *packages = json_object_get(diff, "packages");
	const json_t *files = json_object_get(diff, "files");
	bool list_packages = json_array_size(packages) > 0;
	bool list_files = !packages_only && json_array_size(files) > 0;
	int64_t grown = json_get_int(diff, "grown_bytes", 0);

	print_table(cli, package_columns, packages);
	if (list_packages && list_files)
		printf("\n");
	if (list_files)
		print_table(cli, file_columns, files);
	printf("%s%s to %s: %" PRId64 " files and folders added, %" PRId64
	       " removed, %" PRId64 " changed; %s%s\n",
	    list_packages || list_files ? "\n" : "", member(cli, diff, "from"),
	    member(cli, diff, "to"), json_get_int(diff, "added", 0),
	    json_get_int(diff, "removed", 0), json_get_int(diff, "changed", 0),
	    grown < 0 ? "-" : "+", text_bytes(cli, grown < 0 ? -grown : grown));
	if (json_get_bool(diff, "cut", false))
		printf("The list of files is cut.\n");
}

int
run_image_diff(struct cli *cli, const struct values *values, struct err *err)
{
	const char *other = value_get(values, "OTHER");
	const char *image = value_get(values, "IMAGE"), *query = "";
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	int64_t from = 0, id;
	int r;

	if ((r = api_id(cli, ARG_IMAGE, image, &id, err)) < 0)
		return r;
	if (other != NULL) {
		from = id;
		if ((r = api_id(cli, ARG_IMAGE, other, &id, err)) < 0)
			return r;
		query = arena_printf(cli->arena, "?from=%" PRId64, from);
	}
	r = api_call(cli, "GET",
	    arena_printf(
		cli->arena, "/v1/images/%" PRId64 "/diff%s", id, query),
	    NULL, &answer, err);
	if (r < 0)
		return r;
	if (cli->json)
		print_json(answer);
	else
		print_diff(cli, answer, value_flag(values, "--packages"));
	return 0;
}

/* Export */

static int
copy_to(const char *from, const char *part, const char *to, struct err *err)
{
	_cleanup_(closep)
	int in = open(from, O_RDONLY | O_CLOEXEC);
	_cleanup_(closep)
	int out = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t n = 0;

	if (in < 0 || out < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "copy %s to %s", from, to);
	while ((n = sendfile(out, in, NULL, 1 << 20)) > 0)
		;
	if (n < 0 || fsync(out) < 0 || rename(part, to) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "write %s", to);
	return 0;
}

/* The node has written it where only root gets; it becomes ours, under its
 * name when it is whole. */
static int
fetch(const char *from, const char *to, struct err *err)
{
	_cleanup_(freep)
	char *part = xasprintf("%s.part", to);
	int r;

	if (rename(from, to) == 0)
		return 0;
	if (errno != EXDEV)
		return err_errno(err, ERR_SYSTEM, errno, "write %s", to);
	interrupt_half(part);
	if ((r = copy_to(from, part, to, err)) < 0)
		unlink(part); /* of no use */
	interrupt_half(NULL);
	return r;
}

static const char *
format_of(const char *file)
{
	static const char *const formats[] = { ".tar.gz", ".tar.xz", ".tar.zst",
		".tar" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(formats); i++)
		if (str_ends(file, formats[i]))
			return formats[i];
	return NULL;
}

static void
print_export(struct cli *cli, int64_t id, const char *file)
{
	_cleanup_(json_decrefp)
	json_t *done = NULL;
	struct stat st = { 0 };

	/* It may be taken away again by now. */
	if (stat(file, &st) < 0)
		st.st_size = 0;
	done = json_pack("{sI ss sI}", "id", (json_int_t)id, "path", file,
	    "size_bytes", (json_int_t)st.st_size);
	if (cli->json)
		print_json(done);
	else if (!cli->quiet)
		printf("image %" PRId64 " is in %s: %s\n", id,
		    text_clean(cli, file), text_bytes(cli, st.st_size));
}

int
run_image_export(struct cli *cli, const struct values *values, struct err *err)
{
	const char *file = value_get(values, "FILE");
	const char *format = format_of(file), *path;
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	int64_t id;
	int r;

	if (format == NULL)
		return err_set(err, ERR_USAGE,
		    "'%s' ends in none of .tar .tar.gz .tar.xz .tar.zst, so "
		    "how it is to be packed isn't known",
		    file);
	r = api_id(cli, ARG_IMAGE, value_get(values, "IMAGE"), &id, err);
	if (r < 0)
		return r;
	interrupt_begin(
	    "The export has ended, and nothing of it stays.\n", NULL);
	r = api_call(cli, "POST",
	    api_path(cli, values->noun, id, "/export?wait=1"),
	    json_pack("{ss}", "format", format), &answer, err);
	if (r == 0) {
		path = json_get_str(answer, "path", "");
		r = fetch(path, file, err);
		unlink(path); /* gone already if it was renamed */
	}
	interrupt_end();
	if (r == 0)
		print_export(cli, id, file);
	return r;
}

/* Verify */

int
run_image_verify(struct cli *cli, const struct values *values, struct err *err)
{
	int r;

	interrupt_begin(
	    "The comparison has ended; it changes nothing.\n", NULL);
	r = call_each(cli, values, "POST", "/verify?wait=1", err);
	interrupt_end();
	if (r == 0 && !cli->json && !cli->quiet)
		printf("Every byte is as its checksum says.\n");
	return r;
}

/* Garbage */

static const struct column gc_columns[] = {
	{ "ID", "id", COLUMN_NUMBER },
	{ "IMAGE", "name", COLUMN_TEXT },
	{ "SIZE", "size_bytes", COLUMN_BYTES },
	COLUMN_END,
};

int
run_image_gc(struct cli *cli, const struct values *values, struct err *err)
{
	bool dry = value_flag(values, "--dry-run");
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	const json_t *items;
	int r;

	interrupt_begin(dry ? "Nothing was removed.\n"
			    : "What is garbage is removed all the same; 'qvd "
			      "image gc --dry-run' says what is left.\n",
	    NULL);
	r = api_call(cli, "POST", "/v1/images/gc?wait=1",
	    json_pack("{sb}", "dry_run", (int)dry), &answer, err);
	interrupt_end();
	if (r < 0)
		return r;
	if (cli->json) {
		print_json(answer);
		return 0;
	}
	items = json_object_get(answer, "items");
	print_table(cli, gc_columns, items);
	printf("%zu images that no OSF keeps %s; %" PRId64 " files and %" PRId64
	       " checkouts of this node's store %s: "
	       "%s\n",
	    json_array_size(items), dry ? "would be removed" : "removed",
	    json_get_int(answer, "objects", 0),
	    json_get_int(answer, "trees", 0), dry ? "would go" : "are gone",
	    text_bytes(cli, json_get_int(answer, "bytes", 0)));
	return 0;
}
