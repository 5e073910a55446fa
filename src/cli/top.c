/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd host top: who uses what of a node, and what there is room for. Read by
 * somebody whom a full node got out of bed: what is short comes first, then
 * who uses most of it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/nouns.h"
#include "json/json.h"

#define SHOWN_DEFAULT 20

static const struct column columns[] = {
	{ "VM", "vm_id", COLUMN_NUMBER },
	{ "NAME", "path", COLUMN_TEXT },
	{ "STATE", "shown_state", COLUMN_TEXT },
	{ "SESSION", "session", COLUMN_TEXT },
	{ "PSS", "pss_kb", COLUMN_KB },
	{ "ANON", "anon_kb", COLUMN_KB },
	{ "SWAP", "swap_kb", COLUMN_KB },
	{ "KERNEL", "kernel_kb", COLUMN_KB },
	{ "PROCS", "processes", COLUMN_NUMBER },
	{ "CPU%", "cpu_pressure", COLUMN_PERCENT },
	{ "MEM%", "mem_pressure", COLUMN_PERCENT },
	{ "IO%", "io_pressure", COLUMN_PERCENT },
	{ "SYS%", "system_percent", COLUMN_NUMBER },
	{ "HOME%", "home_percent", COLUMN_NUMBER },
	{ "IMAGE", "image", COLUMN_TEXT },
	COLUMN_END,
};
static const char *const spare[] = { "home_percent", "system_percent",
	"processes", "image", "session", "kernel_kb", NULL };

/* The words of --sort and the members that they stand for. */
static const char *const sort_strings[] = { "memory", "swap", "cpu",
	"mem-pressure", "io", "processes" };
static const char *const sort_members[] = { "pss_kb", "swap_kb", "cpu_pressure",
	"mem_pressure", "io_pressure", "processes" };
static const struct enum_words sort_words = { "sort", sort_strings,
	ARRAY_SIZE(sort_strings) };

const struct arg host_top_args[] = {
	{ "HOST", ARG_HOST, 0,
	    .doc = "the host, by id or name (default: the one asked)" },
	{ "--sort", ARG_WORD, 0, .words = &sort_words,
	    .doc = "by which the first come first (default: memory)" },
	{ "--limit", ARG_NUMBER, 0, .min = 1, .max = 100000,
	    .doc = "how many VMs are shown (default 20)" },
	ARG_END,
};

static double
number(const json_t *object, const char *member)
{
	return json_number_value(json_object_get(object, member));
}

static const char *
size_text(struct cli *cli, const json_t *object, const char *member)
{
	return text_bytes(cli, json_get_int(object, member, 0) * 1024);
}

static void
print_disks(struct cli *cli, const json_t *disks)
{
	const json_t *disk;
	const char *fill;
	size_t i;

	json_array_foreach (disks, i, disk) {
		fill = json_get_str(disk, "fill", "ok");
		printf("disk of %s: %s, free %s%s\n",
		    text_clean(cli, json_get_str(disk, "path", "?")),
		    size_text(cli, disk, "size_kb"),
		    size_text(cli, disk, "free_kb"),
		    str_eq(fill, "full")   ? ": full"
		    : str_eq(fill, "high") ? ": nearly full"
					   : "");
	}
}

static void
print_node(struct cli *cli, const json_t *host)
{
	const json_t *pressure = json_object_get(host, "pressure");

	printf("%s: %" PRId64 " CPUs, load %.1f; memory %s, available %s",
	    text_clean(cli, json_get_str(host, "name", "?")),
	    json_get_int(host, "cpus", 0), number(host, "load"),
	    size_text(cli, host, "memory_kb"),
	    size_text(cli, host, "available_kb"));
	if (json_get_int(host, "swap_kb", 0) > 0)
		printf("; swap %s, free %s\n", size_text(cli, host, "swap_kb"),
		    size_text(cli, host, "swap_free_kb"));
	else
		printf("; no swap\n");
	if (pressure != NULL)
		printf("somebody waited for CPU %.0f %%, memory %.0f %%, disk "
		       "%.0f %% of the time\n",
		    number(pressure, "cpu"), number(pressure, "memory"),
		    number(pressure, "io"));
	print_disks(cli, json_object_get(host, "disks"));
}

static void
print_vms_line(struct cli *cli, const json_t *host, const json_t *vms)
{
	const char *shortage = json_get_str(host, "short_of", NULL);
	int64_t hibernated = 0;
	const json_t *vm;
	size_t i;

	json_array_foreach (vms, i, vm)
		hibernated += json_get_bool(vm, "hibernated", false);
	printf("%zu VM%s, %" PRId64 " of them hibernated", json_array_size(vms),
	    json_array_size(vms) == 1 ? "" : "s", hibernated);
	if (json_get_int(host, "starting", 0) +
		json_get_int(host, "waiting", 0) >
	    0)
		printf("; %" PRId64 " starting, %" PRId64 " waiting (%" PRId64
		       " at once)",
		    json_get_int(host, "starting", 0),
		    json_get_int(host, "waiting", 0),
		    json_get_int(host, "turns", 0));
	if (shortage != NULL)
		printf("; short of %s", text_clean(cli, shortage));
	printf("\n");
}

static void
print_room(struct cli *cli, const json_t *room)
{
	const json_t *r;
	size_t i;

	json_array_foreach (room, i, r)
		printf("room for %" PRId64 " more of %s (%s each)\n",
		    json_get_int(r, "more", 0),
		    text_clean(cli, json_get_str(r, "image", "?")),
		    text_bytes(cli, json_get_int(r, "each_bytes", 0)));
	if (json_array_size(room) == 0)
		printf("room for more: not known, no VM is awake to reckon "
		       "with\n");
}

struct entry {
	json_t *vm;
	double key;
	int64_t id;
};

static int
compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

/* The first of them; what is hibernated says so as its state. */
static json_t *
sorted(const json_t *vms, const char *member, size_t limit)
{
	size_t n = json_array_size(vms), i;
	struct entry *entries = xcalloc(n + 1, sizeof(*entries));
	json_t *out = json_array(), *vm;

	for (i = 0; i < n; i++) {
		vm = json_array_get(vms, i);
		json_object_set_new(vm, "shown_state",
		    json_string(json_get_bool(vm, "hibernated", false)
				    ? "hibernated"
				    : json_get_str(vm, "state", "?")));
		entries[i] = (struct entry){ vm, number(vm, member),
			json_get_int(vm, "vm_id", 0) };
	}
	qsort(entries, n, sizeof(*entries), compare);
	for (i = 0; i < n && i < limit; i++)
		json_array_append(out, entries[i].vm);
	free(entries);
	return out;
}

static void
print_top(struct cli *cli, const struct values *values, const json_t *answer)
{
	const char *word = value_get(values, "--sort");
	const char *text = value_get(values, "--limit");
	const json_t *vms = json_object_get(answer, "vms");
	int64_t limit = SHOWN_DEFAULT;
	int by = 0;

	if (word != NULL)
		enum_from_str(&sort_words, word, &by);
	if (text != NULL)
		str_to_i64(text, 1, INT32_MAX, &limit);
	print_node(cli, json_object_get(answer, "host"));
	print_vms_line(cli, json_object_get(answer, "host"), vms);
	print_room(cli, json_object_get(answer, "room"));
	if (json_array_size(vms) > 0) {
		_cleanup_(json_decrefp)
		json_t *first = sorted(vms, sort_members[by], (size_t)limit);

		printf("\n");
		print_wide_table(cli, columns, spare, first);
	}
	if (json_array_size(vms) > (size_t)limit)
		printf("and %zu more; --limit shows them\n",
		    json_array_size(vms) - (size_t)limit);
}

/* Checks what isn't sent, as it would be checked if it were. */
static int
check_values(struct cli *cli, const struct values *values, struct err *err)
{
	int i, r;

	for (i = 0; i < values->n; i++) {
		_cleanup_(json_decrefp)
		json_t *ignored = NULL;

		if (values->v[i].arg->type == ARG_HOST)
			continue;
		if ((r = value_to_json(cli, values->v[i].arg, values->v[i].text,
			 &ignored, err)) < 0)
			return r;
	}
	return 0;
}

int
run_host_top(struct cli *cli, const struct values *values, struct err *err)
{
	const char *host = value_get(values, "HOST");
	_cleanup_(json_decrefp)
	json_t *about = NULL;
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	int64_t id;
	int r;

	if ((r = check_values(cli, values, err)) < 0)
		return r;
	if (host == NULL) {
		r = api_call(cli, "GET", "/v1", NULL, &about, err);
		if (r < 0)
			return r;
		host = json_get_str(about, "host", "?");
	}
	if ((r = api_id(cli, ARG_HOST, host, &id, err)) < 0 ||
	    (r = api_call(cli, "GET", api_path(cli, values->noun, id, "/usage"),
		 NULL, &answer, err)) < 0)
		return r;
	if (cli->json)
		print_json(answer);
	else
		print_top(cli, values, answer);
	return 0;
}
