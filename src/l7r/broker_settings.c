/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What administrators set for the router (`qvd config`): read when the
 * database comes, and again whenever a row of configs changes. Connections
 * that are under way keep the deadlines with which they began.
 */
#include "base/log.h"
#include "base/str.h"
#include "l7r/broker.h"
#include "l7r/broker_sql.h"
#include "model/config.h"

static void
take(struct broker_settings *s, const struct db_result *res)
{
	str_copy(s->tenant, sizeof(s->tenant),
	    config_text(config_find("l7r.auth.tenant"),
		db_lookup(res, "key", "l7r.auth.tenant", "value")));
	str_copy(s->separators, sizeof(s->separators),
	    config_text(config_find("l7r.auth.separators"),
		db_lookup(res, "key", "l7r.auth.separators", "value")));
	s->start_ms = config_i64(config_find("l7r.timeout.start"),
	    db_lookup(res, "key", "l7r.timeout.start", "value"));
	s->stop_ms = config_i64(config_find("l7r.timeout.stop"),
	    db_lookup(res, "key", "l7r.timeout.stop", "value"));
	s->session_ms = config_i64(config_find("l7r.timeout.session"),
	    db_lookup(res, "key", "l7r.timeout.session", "value"));
	s->token_ms = config_i64(config_find("l7r.token.lifetime"),
	    db_lookup(res, "key", "l7r.token.lifetime", "value"));
}

static void
on_settings(const struct db_result *res, const struct err *err, void *arg)
{
	struct broker *b = arg;

	if (err != NULL) /* the old ones go on; on_up reads again */
		log_err(LOG_LEVEL_WARN, err, "read the settings");
	else
		take(&b->settings, res);
}

void
settings_read(struct broker *b)
{
	db_exec(b->db, &sql_settings, NULL, 0, on_settings, b);
}

void
settings_defaults(struct broker_settings *s)
{
	take(s, NULL);
}
