/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Requests that are held until something has happened: woken by NOTIFY, they
 * read the row and tell how far it is. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "base/str.h"

static void look_again(struct request *req);

void
await_tell(struct request *req, const char *text)
{
	const struct resource *of = req->route->resource;
	char header[400], where[64] = "";

	if (req->conn == NULL || !req->wait || text[0] == '\0' ||
	    str_eq(text, req->await.told))
		return;
	str_copy(req->await.told, sizeof(req->await.told), text);
	/* So that who goes away knows what goes on. */
	if (of != NULL && req->id > 0)
		snprintf(where, sizeof(where),
		    "Location: /v1/%s/%" PRId64 "\r\n", of->name, req->id);
	snprintf(
	    header, sizeof(header), "%sX-QVD-Progress: %s\r\n", where, text);
	http_respond_interim(req->conn, 102, header);
}

static void
on_look(struct request *req, const struct db_result *res)
{
	struct await *a = &req->await;
	struct err err = { 0 };
	char text[256] = "", clean[300];
	int r;

	a->asking = false;
	if (!a->active || req->answered)
		return;
	if (a->again) {
		a->again = false;
		look_again(req);
		return;
	}
	r = a->look(req, res, text, sizeof(text), &err);
	if (r < 0) {
		respond_err(req, &err);
	} else if (r > 0) {
		a->active = false;
		timer_stop(&a->timer);
		respond_object(req, req->route->resource, req->id, 200);
	} else {
		str_escape(clean, sizeof(clean), text, strlen(text));
		await_tell(req, clean);
	}
}

static void
look_again(struct request *req)
{
	struct db_params p = { .n = 0 };

	/* What comes while a look is under way may be newer than it. */
	if (req->await.asking) {
		req->await.again = true;
		return;
	}
	req->await.asking = true;
	db_param_i64(&p, req->id);
	read_exec(req, req->await.stmt, &p, on_look);
}

static void
on_timeout(void *arg)
{
	struct request *req = arg;

	respond_fail(req, ERR_TIMEOUT,
	    "it takes longer than this request may wait, and goes on; last: "
	    "%s",
	    req->await.told[0] != '\0' ? req->await.told : "nothing yet");
}

void
await_start(struct request *req, const char *channel,
    const struct db_stmt *stmt,
    int (*look)(struct request *, const struct db_result *, char *, size_t,
	struct err *),
    int64_t timeout_ms)
{
	struct await *a = &req->await;

	a->stmt = stmt;
	a->look = look;
	a->channel = channel;
	a->active = true;
	timer_init(&a->timer, req->api->loop, on_timeout, req);
	timer_start(&a->timer, timeout_ms);
	look_again(req);
}

void
await_wake(struct api *api, const char *channel)
{
	struct request *req;

	LIST_EACH (&api->requests, req, struct request, link)
		if (req->await.active &&
		    (channel == NULL || str_eq(channel, req->await.channel)))
			look_again(req);
}
