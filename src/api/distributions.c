/* SPDX-License-Identifier: GPL-3.0-or-later */
/* GET /v1/distributions: which node has which image, or how far it is. */
#include "api/api.h"

static const struct field view[] = {
	VIEW("id", I64),
	VIEW("image", STR),
	VIEW("host", STR),
	VIEW("host_id", I64),
	VIEW("state", STR),
	VIEW("state_at", TIME),
	VIEW("progress", I32),
	VIEW("step", STR),
	VIEW("from_host", STR),
	VIEW("moved_bytes", I64),
	VIEW("error_id", STR),
	VIEW("error", STR),
	FIELD_END,
};

static const char *const filters[] = { "image_id", "host_id", NULL };
/* Also nodes that are to get it and have no row of it yet. */
static const struct db_stmt list = { "distribution_list",
	"SELECT i.id, o.name || '/' || i.version AS image, h.name AS host, "
	"h.id AS host_id, coalesce(n.state, 'waiting') AS state, n.state_at, "
	"n.progress, n.step, f.name AS from_host, n.moved_bytes, n.error_id, "
	"n.error FROM images i JOIN osfs o ON o.id = i.osf_id "
	"JOIN tenants t ON t.id = o.tenant_id CROSS JOIN hosts h "
	"LEFT JOIN image_nodes n ON n.image_id = i.id AND n.host_id = h.id "
	"LEFT JOIN hosts f ON f.id = n.from_host_id "
	"WHERE (n.image_id IS NOT NULL OR EXISTS (SELECT FROM image_awaits a "
	"WHERE a.image_id = i.id AND a.host_id = h.id)) "
	"AND ($1::int IS NULL OR i.id = $1::int) "
	"AND ($2::text IS NULL OR t.name = $2::text) "
	"AND ($3::text IS NULL OR o.name = $3::text) "
	"AND ($4::text IS NULL OR i.version = $4::text) "
	"AND $5::text IS NULL "
	"AND ($6::int IS NULL OR i.id = $6::int) "
	"AND ($7::int IS NULL OR h.id = $7::int) "
	"ORDER BY i.id DESC, h.name",
	7 };

const struct resource resource_distributions = { .name = "distributions",
	.word = "distribution",
	.noun = "image on a node",
	.view = view,
	.list = &list,
	.filters = filters };
