/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <jansson.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "client/cli.h"
#include "json/json.h"

static json_t *
row_json(const struct qvd_vm *vm)
{
	return json_pack("{sIsssssbsb}", "id", (json_int_t)vm->id, "name",
	    vm->name, "state", vm->state, "blocked", vm->blocked,
	    "is_application", vm->is_application);
}

static void
print_json(json_t *value, FILE *to)
{
	char *text = json_pretty(value);

	fprintf(to, "%s\n", text);
	wipe_str(text);
	json_decref(value);
}

static void
print_row(const struct qvd_vm *vm, int width)
{
	printf("%6lld  %-*s  %-9s  %s%s\n", (long long)vm->id, width, vm->name,
	    vm->state, vm->is_application ? "application" : "desktop",
	    vm->blocked ? ", under maintenance" : "");
}

void
cli_print_list(
    const struct cli_options *o, const struct qvd_list *const *lists, size_t n)
{
	json_t *array = json_array();
	size_t i, j;
	int width = 4;

	for (i = 0; i < n; i++)
		for (j = 0; j < qvd_list_count(lists[i]); j++) {
			const struct qvd_vm *vm = qvd_list_get(lists[i], j);

			json_array_append_new(array, row_json(vm));
			if ((int)strlen(vm->name) > width)
				width = (int)strlen(vm->name);
		}
	if (o->json) {
		print_json(array, stdout);
		return;
	}
	if (json_array_size(array) == 0)
		fputs(
		    "You have no desktops; ask your administrator.\n", stderr);
	else
		printf("%6s  %-*s  %-9s  %s\n", "ID", width, "NAME", "STATE",
		    "KIND");
	json_decref(array);
	for (i = 0; i < n; i++)
		for (j = 0; j < qvd_list_count(lists[i]); j++)
			print_row(qvd_list_get(lists[i], j), width);
}

void
cli_print_token(const struct cli_options *o, const char *token)
{
	if (o->json)
		print_json(json_pack("{ss}", "token", token), stdout);
	else
		printf("%s\n", token);
}

void
cli_print_error(const struct cli_options *o, const struct qvd_error *e)
{
	const char *ref = e->reference;

	if (o->json) {
		print_json(
		    json_pack("{s{sssssssi}}", "error", "id", e->id, "message",
			e->message, "reference", ref, "exit_code", e->code),
		    stderr);
		return;
	}
	fprintf(stderr, "qvd-client: %s", e->message);
	/* The server's sentence may name both already. */
	if (strstr(e->message, e->id) == NULL)
		fprintf(stderr, " (%s)", e->id);
	if (ref[0] != '\0' && strstr(e->message, ref) == NULL)
		fprintf(stderr, "; reference %s", ref);
	fputc('\n', stderr);
}
