/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What this node should have and another has: one image at a time, newest
 * first, from any node that has it and runs. The row of image_nodes says
 * how far it is; a house-keeper that is restarted goes on with it, and a
 * failure is tried again after a pause, maybe from another node. One that was
 * written before the restart (our own end may look like one) waits for none.
 * A blocked host gets nothing and is asked for nothing (hkd/farm.h).
 */
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hkd/farm.h"
#include "json/json.h"
#include "net/http_client.h"
#include "net/tunnel.h"

#define PULL_MS     (2 * 60 * 60 * 1000)
#define CHECKOUT_MS (30 * 60 * 1000)
#define CONNECT_MS  20000
#define LINGER_MS   10000
#define PROGRESS_MS 500
/* After a failure; the statement below has the same. */
#define PAUSE_MS 30000

struct fetch {
	struct node *node;
	int64_t image_id, from_id;
	char *name; /* "demo/1" */
	char *checksum, *base;
	char *host; /* that has it */
	struct http_client *client;
	struct rpc_request *request;
	struct tunnel *tunnel;
	int64_t since_ms, progress_ms, moved;
	bool ended, writing;
	struct err err;
};

static const struct db_stmt claim_stmt = { "fetch_claim",
	"WITH c AS (SELECT i.id, i.osf_id, i.parent_id, i.checksum, i.version, "
	"s.host_id AS from_id, r.farm_address FROM images i "
	"JOIN image_nodes s ON s.image_id = i.id AND s.state = 'present' "
	"AND s.host_id <> $1 "
	"JOIN host_runtimes r ON r.host_id = s.host_id "
	"AND r.state = 'running' AND r.lease_until > now() "
	"AND r.farm_address IS NOT NULL "
	"JOIN hosts sh ON sh.id = s.host_id AND NOT sh.blocked "
	"JOIN hosts mh ON mh.id = $1 AND NOT mh.blocked "
	"LEFT JOIN image_nodes m ON m.image_id = i.id AND m.host_id = $1 "
	"WHERE i.state IN ('ready', 'published') AND i.checksum IS NOT NULL "
	"AND (m.image_id IS NULL OR m.state = 'pulling' "
	"OR (m.state = 'failed' AND ($2 OR "
	"m.state_at < now() - interval '30 s'))) "
	"ORDER BY i.id DESC, random() LIMIT 1), "
	"n AS (INSERT INTO image_nodes (image_id, host_id, state, "
	"from_host_id) SELECT id, $1, 'pulling', from_id FROM c "
	"ON CONFLICT (image_id, host_id) DO UPDATE SET state = 'pulling', "
	"state_at = now(), from_host_id = excluded.from_host_id) "
	"SELECT c.id, c.from_id, c.checksum, c.farm_address, h.name AS host, "
	"o.name || '/' || c.version AS name, (SELECT b.checksum FROM images b "
	"JOIN image_nodes bn ON bn.image_id = b.id AND bn.host_id = $1 "
	"AND bn.state = 'present' WHERE b.osf_id = c.osf_id "
	"AND b.checksum IS NOT NULL "
	"ORDER BY b.id IS NOT DISTINCT FROM c.parent_id DESC, b.id DESC "
	"LIMIT 1) AS base "
	"FROM c JOIN osfs o ON o.id = c.osf_id JOIN hosts h "
	"ON h.id = c.from_id",
	2 };
static const struct db_stmt progress_stmt = { "fetch_progress",
	"UPDATE image_nodes SET progress = $3, step = $4 WHERE image_id = $1 "
	"AND host_id = $2 AND state = 'pulling'",
	4 };
static const struct db_stmt end_stmt = { "fetch_end",
	"UPDATE image_nodes SET state = $3, state_at = now(), "
	"progress = CASE WHEN $3 = 'present' THEN 100 ELSE progress END, "
	"step = NULL, moved_bytes = $4, error_id = $5, error = $6 "
	"WHERE image_id = $1 AND host_id = $2",
	6 };
static const struct db_stmt wanted_stmt = { "fetch_wanted",
	"SELECT id FROM images WHERE id = $1 "
	"AND state IN ('ready', 'published')",
	1 };

static void
fetch_free(struct fetch *f)
{
	f->node->farm.fetch = NULL;
	http_client_free(f->client);
	if (f->request != NULL)
		rpc_request_cancel(f->request);
	tunnel_free(f->tunnel);
	db_forget(f->node->db, f);
	free(f->name);
	free(f->checksum);
	free(f->base);
	free(f->host);
	free(f);
}

static void
on_end_written(const struct db_result *res, const struct err *err, void *arg)
{
	struct fetch *f = arg;
	struct node *node = f->node;

	f->writing = false;
	if (err != NULL && err->code == ERR_DATABASE) {
		node_retry_later(node);
		return;
	}
	if (err != NULL)
		log_err(LOG_LEVEL_ERROR, err,
		    "write the end of the transfer "
		    "of %s",
		    f->name);
	if (err_is_set(&f->err)) {
		node->farm.caught_up = true;
		timer_start(&node->farm.pause, PAUSE_MS);
	}
	fetch_free(f);
	fetch_claim(node);
}

static void
write_end(struct fetch *f)
{
	bool bad = err_is_set(&f->err);
	struct db_params p = { 0 };

	if (f->writing)
		return;
	f->writing = true;
	db_param_i64(&p, f->image_id);
	db_param_i64(&p, f->node->host_id);
	db_param_str(&p, bad ? "failed" : "present");
	db_param_i64(&p, f->moved);
	db_param_str(&p, bad ? err_id(f->err.code) : NULL);
	db_param_str(&p, bad ? f->err.msg : NULL);
	db_exec(f->node->db, &end_stmt, &p, 0, on_end_written, f);
}

static void
end(struct fetch *f, const struct err *err)
{
	struct event event = { .name = "image.arrived",
		.image_id = f->image_id,
		.duration_ms = time_now_ms() - f->since_ms };
	char ref[REF_LEN + 1];

	if (f->ended)
		return;
	f->ended = true;
	if (err == NULL) {
		store_event(f->node, &event,
		    "image %s came from node %s: %lld KB moved", f->name,
		    f->host, (long long)f->moved / 1000);
		log_info("image %s came from node %s", f->name, f->host);
	} else {
		f->err.code = err->code;
		str_escape(
		    f->err.msg, sizeof(f->err.msg), err->msg, strlen(err->msg));
		ref_make(ref);
		event.name = "image.transfer-failed";
		event.error_id = err_id(err->code);
		event.ref = ref;
		store_event(f->node, &event, "image %s from node %s: %s",
		    f->name, f->host, f->err.msg);
		log_err(LOG_LEVEL_ERROR, &f->err,
		    "image %s from node %s, reference %s", f->name, f->host,
		    ref);
	}
	write_end(f);
}

static void
on_checked_out(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct fetch *f = arg;

	closep(&fd);
	f->request = NULL;
	end(f, err);
}

static void
on_pulled(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct fetch *f = arg;

	closep(&fd);
	f->request = NULL;
	if (err != NULL) {
		end(f, err);
		return;
	}
	f->moved = json_get_int(result, "received", 0) +
		   json_get_int(result, "sent", 0);
	/* Here means: a desktop can start at once. */
	f->request = rpc_ask(f->node->helper, "image.checkout",
	    json_pack("{ss ss}", "checksum", f->checksum, "root_store",
		root_store_to_str(f->node->settings.root_store)),
	    -1, CHECKOUT_MS, on_checked_out, f);
}

static void
ignore(const struct db_result *res, const struct err *err, void *arg)
{
}

static void
on_progress(const json_t *info, void *arg)
{
	struct fetch *f = arg;
	int64_t now = time_now_ms();
	struct db_params p = { 0 };

	if (now - f->progress_ms < PROGRESS_MS || !db_is_up(f->node->db))
		return;
	f->progress_ms = now;
	db_param_i64(&p, f->image_id);
	db_param_i64(&p, f->node->host_id);
	db_param_i64(&p, json_get_int(info, "percent", 0));
	db_param_str(&p, json_get_str(info, "text", NULL));
	db_exec(f->node->db, &progress_stmt, &p, 0, ignore, f);
}

/* The stream's end tells the process, and the process tells us. */
static void
on_tunnel(struct tunnel *tunnel, const struct err *err,
    const struct tunnel_stats *stats, void *arg)
{
	((struct fetch *)arg)->tunnel = NULL;
}

static void
on_upgrade(struct io *io, const struct http_params *headers, void *arg)
{
	struct fetch *f = arg;
	struct node *node = f->node;
	struct io *ours;
	struct err err;
	int fd = -1;

	f->client = NULL;
	if (farm_pair(&ours, &fd, node, &err) < 0) {
		io_free(io);
		end(f, &err);
		return;
	}
	f->tunnel = tunnel_new(node->loop, io, ours, on_tunnel, f);
	tunnel_set_linger(f->tunnel, LINGER_MS);
	f->request = rpc_ask(node->helper, "image.pull",
	    json_pack("{sI ss ss sI}", "image_id", (json_int_t)f->image_id,
		"checksum", f->checksum, "base", f->base, "rate_kbit",
		(json_int_t)node->settings.images_kbit),
	    fd, PULL_MS, on_pulled, f);
	rpc_request_on_progress(f->request, on_progress);
}

static void
on_response(const struct http_response *res, void *arg)
{
	const json_t *error = json_object_get(res->json, "error");
	struct fetch *f = arg;
	char text[300];
	const char *said = json_get_str(error, "message", "nothing more");
	struct err err;

	str_escape(text, sizeof(text), said, strlen(said));
	err_set(&err, ERR_UNAVAILABLE, "it answers %d: %s", res->status, text);
	http_client_free(take_ptr(f->client));
	end(f, &err);
}

static void
on_error(const struct err *err, void *arg)
{
	struct fetch *f = arg;
	struct err bad = *err;

	/* OpenSSL's words are no help to who has to mend it. */
	if (err->code == ERR_TLS || err->code == ERR_CERTIFICATE)
		err_set(&bad, ERR_CERTIFICATE,
		    "these two nodes don't take each other for the same "
		    "farm's: %.300s; give both a certificate of one authority, "
		    "with the node's name in it (qvd farm certificate)",
		    err->msg);
	http_client_free(take_ptr(f->client));
	end(f, &bad);
}

static int
resolve(const char *address, struct sockaddr_storage *ret, socklen_t *ret_len,
    struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *ai = NULL;
	const char *colon = strrchr(address, ':');
	char host[64];
	size_t n = colon == NULL ? 0 : (size_t)(colon - address);

	if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
		address++;
		n -= 2;
	}
	if (n == 0 || n >= sizeof(host))
		return err_set(err, ERR_CONFIG,
		    "its [farm] listen '%s' is no address with a port",
		    address);
	memcpy(host, address, n);
	host[n] = '\0';
	if (getaddrinfo(host, colon + 1, &hints, &ai) != 0)
		return err_set(err, ERR_CONFIG,
		    "its [farm] listen '%s' isn't one that others can use; "
		    "name the node's own address there",
		    address);
	memcpy(ret, ai->ai_addr, ai->ai_addrlen);
	*ret_len = ai->ai_addrlen;
	freeaddrinfo(ai);
	return 0;
}

static void
ignore_event(struct io *io, enum io_event event, void *arg)
{
}

static void
dial(struct fetch *f, const char *address)
{
	static const struct http_client_handlers handlers = {
		.on_response = on_response,
		.on_upgrade = on_upgrade,
		.on_error = on_error,
	};
	_cleanup_(freep)
	char *target = xasprintf("/v1/images/%s", f->checksum);
	const struct http_client_request request = { .method = "GET",
		.target = target,
		.upgrade = FARM_PROTOCOL,
		.timeout_ms = CONNECT_MS };
	struct sockaddr_storage addr;
	socklen_t len = 0;
	struct io *io;
	struct err err;

	if (resolve(address, &addr, &len, &err) < 0 ||
	    (io = io_connect(f->node->loop, (struct sockaddr *)&addr, len,
		 ignore_event, NULL, &err)) == NULL) {
		end(f, &err);
		return;
	}
	io_tls_connect(io, f->node->farm.client, f->host);
	f->client = http_client_new(io);
	http_client_send(f->client, &request, &handlers, f);
}

static void
on_claimed(const struct db_result *res, const struct err *err, void *arg)
{
	struct node *node = arg;
	struct fetch *f;

	node->farm.claiming = false;
	if (err != NULL && err->code != ERR_DATABASE)
		log_err(LOG_LEVEL_ERROR, err, "look for images to get");
	if (err == NULL && db_rows(res) == 0)
		node->farm.caught_up = true;
	if (err != NULL || db_rows(res) == 0 || !node_is_running(node) ||
	    node->farm.fetch != NULL)
		return;
	f = new0(struct fetch);
	node->farm.fetch = f;
	f->node = node;
	f->image_id = db_i64(res, 0, "id");
	f->from_id = db_i64(res, 0, "from_id");
	f->name = xstrdup(db_str(res, 0, "name"));
	f->checksum = xstrdup(db_str(res, 0, "checksum"));
	f->host = xstrdup(db_str(res, 0, "host"));
	f->base = xstrdup(
	    db_str(res, 0, "base") == NULL ? "" : db_str(res, 0, "base"));
	f->since_ms = time_now_ms();
	log_info("getting image %s from node %s", f->name, f->host);
	dial(f, db_str(res, 0, "farm_address"));
}

static void
on_wanted(const struct db_result *res, const struct err *err, void *arg)
{
	struct fetch *f = arg;
	struct node *node = f->node;

	if (err != NULL || db_rows(res) > 0 || f->ended)
		return;
	log_info("image %s isn't wanted any more", f->name);
	fetch_free(f);
	fetch_claim(node);
}

void
fetch_claim(struct node *node)
{
	struct fetch *f = node->farm.fetch;
	struct db_params p = { 0 };

	if (node->farm.client == NULL || !node_is_running(node) ||
	    !db_is_up(node->db))
		return;
	if (f != NULL && f->ended) {
		write_end(f);
	} else if (f != NULL) {
		db_param_i64(&p, f->image_id);
		db_exec(node->db, &wanted_stmt, &p, 0, on_wanted, f);
	} else if (!node->farm.claiming) {
		node->farm.claiming = true;
		db_param_i64(&p, node->host_id);
		db_param_bool(&p, !node->farm.caught_up);
		db_exec(node->db, &claim_stmt, &p, 0, on_claimed, node);
	}
}

void
fetch_done(struct node *node)
{
	if (node->farm.fetch != NULL)
		fetch_free(node->farm.fetch);
}
