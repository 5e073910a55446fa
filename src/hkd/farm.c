/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * GET /v1/images/<checksum> with "Upgrade: qvd-image/1" on the farm's port:
 * the stream goes to a process that serves this one image (image/pull.h).
 * The farm's authority says who may connect; that the node still is one of the
 * farm's, and the image, too, the database. So a certificate is worth nothing
 * from the moment on in which its host is blocked or removed.
 */
#include "hkd/farm.h"

#include <fcntl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "net/http_server.h"
#include "net/listen.h"
#include "net/tls_ca.h"
#include "net/tunnel.h"

#define IDENTITY_MS  30000
#define AGAIN_MS     (60 * 60 * 1000) /* a renewed certificate is found */
#define RETRY_MS     (30 * 1000)
#define WARN_DAYS    30
#define SERVED_MAX   8 /* at once: who asks for more asks another node */
#define CONNS_MAX    64
#define SERVE_MS     (2 * 60 * 60 * 1000)
#define LINGER_MS    10000
#define PATH         "/v1/images/"
#define CHECKSUM_LEN 64

struct serving {
	struct list link;
	struct node *node;
	struct http_conn *conn;
	char checksum[CHECKSUM_LEN + 1];
	bool asking; /* the database */
	struct rpc_request *request;
	struct tunnel *tunnel;
};

/* To whom; nobody if it is none of the farm's. */
static const struct db_stmt served_stmt = { "image_served",
	"SELECT name FROM hosts WHERE NOT blocked AND EXISTS (SELECT "
	"FROM images WHERE checksum = $1 "
	"AND state IN ('ready', 'published', 'retired'))",
	1 };
static const struct db_stmt address_stmt = { "farm_address",
	"UPDATE host_runtimes SET farm_address = $2 WHERE host_id = $1", 2 };

static void
ignore_event(struct io *io, enum io_event event, void *arg)
{
}

int
farm_pair(
    struct io **ret_ours, int *ret_theirs, struct node *node, struct err *err)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "socketpair");
	fcntl(fds[0], F_SETFL, fcntl(fds[0], F_GETFL) | O_NONBLOCK);
	/* Whoever relays sets its own callback at once. */
	*ret_ours = io_new(node->loop, fds[0], ignore_event, NULL);
	*ret_theirs = fds[1];
	return 0;
}

/* Serving */

static void
serving_destroy(void *arg)
{
	free(arg);
}

static void
serving_free(struct serving *s)
{
	struct node *node = s->node;

	list_del(&s->link);
	if (s->conn != NULL)
		http_conn_free(s->conn);
	if (s->tunnel != NULL)
		tunnel_free(s->tunnel);
	if (s->request != NULL)
		rpc_request_cancel(s->request);
	db_forget(node->db, s);
	if (node->farm.listener != NULL)
		listener_closed_one(node->farm.listener);
	loop_defer(node->loop, serving_destroy, s);
}

static void
on_tunnel(struct tunnel *tunnel, const struct err *err,
    const struct tunnel_stats *stats, void *arg)
{
	struct serving *s = arg;

	s->tunnel = NULL;
	log_info("served %.12s: %lld KB", s->checksum,
	    (long long)(stats->bytes_ab + stats->bytes_ba) / 1000);
	serving_free(s);
}

static void
on_served(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct serving *s = arg;

	closep(&fd);
	s->request = NULL;
	if (err != NULL)
		log_err(LOG_LEVEL_WARN, err, "serve image %.12s", s->checksum);
	/* The stream's end comes by itself. */
}

static int
count_served(const struct node *node)
{
	struct serving *s;
	int n = 0;

	LIST_EACH (&node->farm.served, s, struct serving, link)
		n += s->tunnel != NULL;
	return n;
}

static void
begin_serving(struct serving *s)
{
	struct node *node = s->node;
	struct io *peer, *ours;
	struct err err;
	int fd = -1;

	if (count_served(node) >= SERVED_MAX) {
		err_set(&err, ERR_UNAVAILABLE,
		    "this node serves %d others already", SERVED_MAX);
		http_respond_err(s->conn, &err);
		return;
	}
	if (farm_pair(&ours, &fd, node, &err) < 0) {
		http_respond_err(s->conn, &err);
		return;
	}
	peer = http_upgrade(
	    s->conn, "Upgrade: " FARM_PROTOCOL "\r\nConnection: Upgrade\r\n");
	s->conn = NULL;
	s->tunnel = tunnel_new(node->loop, peer, ours, on_tunnel, s);
	tunnel_set_linger(s->tunnel, LINGER_MS);
	s->request = rpc_ask(node->helper, "image.serve",
	    json_pack("{ss}", "checksum", s->checksum), fd, SERVE_MS, on_served,
	    s);
}

static int
check_peer(
    const struct serving *s, const struct db_result *res, struct err *err)
{
	const struct io *io = http_conn_io(s->conn);
	int i;

	if (db_rows(res) == 0)
		return err_set(err, ERR_NOT_FOUND,
		    "the farm has no image %.12s", s->checksum);
	for (i = 0; i < db_rows(res); i++)
		if (io_tls_peer_is(io, db_str(res, i, "name")))
			return 0;
	err_set(err, ERR_FORBIDDEN,
	    "the farm has no host of the name in this certificate, or it is "
	    "blocked ('qvd host list')");
	log_err(LOG_LEVEL_WARN, err, "%s asks for image %.12s", io_peer(io),
	    s->checksum);
	return -(int)ERR_FORBIDDEN;
}

static void
on_known(const struct db_result *res, const struct err *err, void *arg)
{
	struct serving *s = arg;
	struct err bad;

	s->asking = false;
	if (err == NULL && check_peer(s, res, &bad) < 0)
		err = &bad;
	if (err == NULL)
		begin_serving(s);
	else
		http_respond_err(s->conn, err);
}

static void
on_request(struct http_conn *conn, struct http_request *req, void *arg)
{
	const char *upgrade = http_header(&req->headers, "Upgrade");
	struct serving *s = arg;
	const char *sum = req->path + strlen(PATH);
	struct db_params p = { 0 };
	struct err err;

	if (!str_eq(req->method, "GET") || !str_starts(req->path, PATH) ||
	    strlen(sum) != CHECKSUM_LEN ||
	    strspn(sum, "0123456789abcdef") != CHECKSUM_LEN) {
		err_set(&err, ERR_NOT_FOUND, "there is no '%.100s'", req->path);
		http_respond_err(conn, &err);
		return;
	}
	if (upgrade == NULL || !str_eq(upgrade, FARM_PROTOCOL)) {
		err_set(&err, ERR_UPGRADE, "images are served as %s",
		    FARM_PROTOCOL);
		http_respond_err(conn, &err);
		return;
	}
	str_copy(s->checksum, sizeof(s->checksum), sum);
	s->asking = true;
	db_param_str(&p, s->checksum);
	db_exec(s->node->db, &served_stmt, &p, 0, on_known, s);
}

static void
on_abort(struct http_conn *conn, void *arg)
{
	struct serving *s = arg;

	db_forget(s->node->db, s);
}

static void
on_close(struct http_conn *conn, void *arg)
{
	struct serving *s = arg;

	s->conn = NULL;
	serving_free(s);
}

static void
on_accept(int fd, void *arg)
{
	static const struct http_handlers handlers = {
		.on_request = on_request,
		.on_abort = on_abort,
		.on_close = on_close,
	};
	struct node *node = arg;
	struct serving *s = new0(struct serving);
	struct io *io = io_new(node->loop, fd, ignore_event, NULL);

	s->node = node;
	list_init(&s->link);
	list_add(&node->farm.served, &s->link);
	io_tls_accept(io, node->farm.server);
	s->conn = http_conn_new(io, &http_server_defaults, &handlers, s);
}

/* Identity */

static void
on_written(const struct db_result *res, const struct err *err, void *arg)
{
	if (err != NULL && err->code != ERR_DATABASE)
		log_err(LOG_LEVEL_ERROR, err, "write the farm's address");
}

static void
write_address(struct node *node)
{
	struct db_params p = { 0 };

	db_param_i64(&p, node->host_id);
	db_param_str(&p, node->conf->farm_listen);
	db_exec(node->db, &address_stmt, &p, 0, on_written, NULL);
}

static int
open_port(struct node *node, struct err *err)
{
	int fd = -1, r;

	if (node->farm.listener != NULL)
		return 0;
	if ((r = listen_tcp(node->conf->farm_listen, false, &fd, err)) < 0)
		return r;
	node->farm.listener =
	    listener_new(node->loop, fd, CONNS_MAX, on_accept, node);
	log_info("serving images to the farm on %s", node->conf->farm_listen);
	return 0;
}

static void
warn_of_age(const char *cert)
{
	struct err err;
	int days = 0;

	if (tls_days_left(cert, &days, &err) < 0)
		log_err(LOG_LEVEL_WARN, &err, "this node's certificate");
	else if (days < WARN_DAYS)
		log_warn("this node's certificate of the farm ends in %d days; "
			 "make a new one: qvd farm certificate (it is taken "
			 "within an hour)",
		    days);
}

/* Connections keep what they began with. */
static int
take_identity(struct node *node, const json_t *files, struct err *err)
{
	const char *ca = json_get_str(files, "ca", "");
	const char *cert = json_get_str(files, "cert", "");
	const char *key = json_get_str(files, "key", "");
	struct tls_ctx *server, *client;

	server = tls_ctx_new_server(cert, key, ca, err);
	client = server == NULL ? NULL : tls_ctx_new_peer(cert, key, ca, err);
	if (client == NULL) {
		tls_ctx_unref(server);
		return -(int)err->code;
	}
	tls_ctx_unref(node->farm.server);
	tls_ctx_unref(node->farm.client);
	node->farm.server = server;
	node->farm.client = client;
	warn_of_age(cert);
	return open_port(node, err);
}

static void
on_identity(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct node *node = arg;
	struct err bad;

	closep(&fd);
	if (node->phase == NODE_STOPPING)
		return;
	if (err == NULL && take_identity(node, result, &bad) < 0)
		err = &bad;
	timer_start(&node->farm.timer, err == NULL ? AGAIN_MS : RETRY_MS);
	if (err != NULL) {
		log_err(LOG_LEVEL_ERROR, err,
		    "this node can't be one of the farm's");
		return;
	}
	write_address(node);
	fetch_claim(node);
}

static void
on_timer(void *arg)
{
	farm_begin(arg);
}

void
farm_begin(struct node *node)
{
	if (node->conf->farm_listen[0] == '\0' || !node_is_running(node))
		return;
	rpc_ask(node->helper, "farm.identity", NULL, -1, IDENTITY_MS,
	    on_identity, node);
}

static void
on_pause(void *arg)
{
	fetch_claim(arg);
}

void
farm_init(struct node *node)
{
	list_init(&node->farm.served);
	timer_init(&node->farm.pause, node->loop, on_pause, node);
	timer_init(&node->farm.timer, node->loop, on_timer, node);
}

void
farm_done(struct node *node)
{
	struct serving *s;

	fetch_done(node);
	LIST_EACH (&node->farm.served, s, struct serving, link)
		serving_free(s);
	if (node->farm.listener != NULL)
		listener_free(node->farm.listener);
	timer_done(&node->farm.timer);
	timer_done(&node->farm.pause);
	tls_ctx_unref(node->farm.server);
	tls_ctx_unref(node->farm.client);
}
