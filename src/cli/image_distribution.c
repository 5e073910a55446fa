/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd image distribution: which node has what. */
#include <inttypes.h>

#include "base/mem.h"
#include "cli/image.h"
#include "json/json.h"

static const struct column columns[] = {
	{ "IMAGE", "image", COLUMN_TEXT },
	{ "NODE", "host", COLUMN_TEXT },
	{ "STATE", "state", COLUMN_TEXT },
	{ "SINCE", "state_at", COLUMN_AGE },
	{ "%", "progress", COLUMN_NUMBER },
	{ "STEP", "step", COLUMN_TEXT },
	{ "FROM", "from_host", COLUMN_TEXT },
	{ "MOVED", "moved_bytes", COLUMN_BYTES },
	{ "ERROR", "error", COLUMN_TEXT },
	COLUMN_END,
};

int
run_image_distribution(
    struct cli *cli, const struct values *values, struct err *err)
{
	const char *image = value_get(values, "IMAGE");
	const char *target = "/v1/distributions";
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	int64_t id;
	int r;

	if (image != NULL) {
		if ((r = api_id(cli, ARG_IMAGE, image, &id, err)) < 0)
			return r;
		target = arena_printf(
		    cli->arena, "/v1/distributions?image_id=%" PRId64, id);
	}
	if ((r = api_call(cli, "GET", target, NULL, &answer, err)) < 0)
		return r;
	if (cli->json)
		print_json(json_object_get(answer, "items"));
	else
		print_table(cli, columns, json_object_get(answer, "items"));
	return 0;
}
