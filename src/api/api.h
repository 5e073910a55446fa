/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The REST API. A request is decoded by tables, authorised by the route's
 * permission and the peer's credentials, and becomes prepared statements:
 * reads as single ones, changes as one transaction that ends with a row in
 * `audit`. A request lives until it is answered and its statements are done,
 * even when its client has gone; all its memory is one arena. Used in
 * qvd-api only.
 */
#ifndef API_API_H
#define API_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/field.h"
#include "base/list.h"
#include "db/db.h"
#include "loop/loop.h"
#include "model/node_conf.h"
#include "net/http_server.h"
#include "net/listen.h"

struct api {
	struct loop *loop;
	struct db *db;
	struct node_conf conf;
	struct listener *listener;
	struct list clients;
	struct list requests;
	uid_t uid; /* our own: may all, as root */
	struct timer stop_timer;
	bool stopping;
	struct err schema_err; /* set: the schema is not ours */
	/* rollout_drive.c */
	struct timer rollout_timer;
	int64_t rollout_due_ms;
	bool rollout_asking, rollout_again;
	struct timer expiry_timer; /* expiry.c */
	struct timer upload_timer; /* uploads.c */
	int upload_dir;            /* upload_files.h */
};

enum permission {
	PERMISSION_ANY,
	PERMISSION_ADMIN /* of the farm: root, and the API's own user */
};

struct request;
struct resource;
typedef void (*route_handler)(struct request *req);

struct route {
	const char *method;
	const char *path; /* "/v1/vms/{id}/start"; also {tag}, {key} */
	enum permission permission;
	route_handler handler;
	const char *action; /* in audit; NULL: changes nothing */
	const struct resource *resource;
	bool takes_bytes; /* its body is no JSON */
};
extern const struct route routes[]; /* ends with a NULL method */

/* What a request waits for, if it was sent with ?wait=1. */
struct await {
	const struct db_stmt *stmt; /* $1: the id */
	/* Looks at what stmt gave: 0: not yet (progress in text), 1: it is
	 * so, negative: it won't be. */
	int (*look)(struct request *req, const struct db_result *res,
	    char *text, size_t size, struct err *err);
	const char *channel;
	struct timer timer;
	bool active, asking, again;
	char told[256];
};

struct request {
	struct list link;
	struct api *api;
	struct http_conn *conn; /* NULL: its client has gone */
	struct client *client;  /* the same */
	struct arena *arena;
	const struct route *route;
	char actor[48];
	int64_t id;       /* {id} */
	const char *word; /* {tag}, {key} */
	struct http_params query;
	json_t *body; /* NULL: none */
	char *bytes;  /* the body of a route that takes_bytes, NULL: none */
	size_t bytes_len;
	bool wait;
	bool wants_stream; /* it may become one: respond_stream() */
	bool committing;
	bool failed; /* answered with an error: steps to come do nothing */
	struct db_txn *txn;
	struct await await;
	struct node_ask *ask; /* under way; src/api/node.c */
	json_t *owned;        /* freed with the request */
	int64_t epoch;        /* of a VM's start */
	int pending;          /* statements whose answer is due */
	bool answered;
	void *data; /* the handler's own, in the arena */
};

/* Answers; each ends the request. */
void respond(struct request *req, int status, json_t *value);
/* The connection becomes a stream, relayed to and from fd, which is taken. */
void respond_stream(struct request *req, int fd);
void respond_err(struct request *req, const struct err *err);
void respond_fail(struct request *req, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Statements. cb is called only on success; a failure answers the request
 * (and rolls its transaction back). */
typedef void (*step_cb)(struct request *req, const struct db_result *res);
void read_exec(struct request *req, const struct db_stmt *stmt,
    const struct db_params *params, step_cb cb);
/* Begins the request's transaction, then calls cb (res NULL). */
void change_begin(struct request *req, step_cb cb);
void change_exec(struct request *req, const struct db_stmt *stmt,
    const struct db_params *params, step_cb cb);
/* Writes the audit row about that object ("vm 12") and commits. */
void change_commit(struct request *req, const char *object, step_cb cb);

/* The request waits for something else than the database: it lives until
 * it is released, even when it has been answered. */
void request_hold(struct request *req);
void request_release(struct request *req);

/* Waits with 102 answers until await->look says so, then calls done. */
void await_start(struct request *req, const char *channel,
    const struct db_stmt *stmt,
    int (*look)(struct request *, const struct db_result *, char *, size_t,
	struct err *),
    int64_t timeout_ms);
/* Something changed: all that wait on that channel look again (NULL: on
 * any). */
void await_wake(struct api *api, const char *channel);

/* A 102 with that text, if the client waits and wasn't told it last. */
void await_tell(struct request *req, const char *text);

/* src/api/node.c: a question to this node's house-keeper, at most one a
 * request; cb only on success (fd is the callee's), a failure answers. Ends
 * with its client. */
typedef void (*node_cb)(struct request *req, const json_t *result, int fd);
void node_ask(struct request *req, const char *op, json_t *args,
    int64_t deadline_ms, node_cb cb);
void node_ask_cancel(struct request *req);
/* Something asynchronous is under way for the request, or over. */
void request_step_begun(struct request *req);
void request_step_done(struct request *req);
/* Ends the request if it is answered and nothing is under way. */
void request_check(struct request *req);
/* Takes value; freed with the request. */
void request_own_json(struct request *req, json_t *value);

/* Query parameters. */
const char *query_str(const struct request *req, const char *name);
/* False (and answered) if it is there and not a number in range. */
bool query_i64(struct request *req, const char *name, int64_t min, int64_t max,
    int64_t *ret, bool *ret_there);
/* The same, 1 to max, as the statement's next parameter: NULL if not there. */
bool query_param_i64(
    struct request *req, const char *name, int64_t max, struct db_params *p);
/* False (and answered) if there is another than those (NULL-ended). */
bool query_check(struct request *req, const char *const *names);

/* Rows as JSON by a table of fields, of which only names and types count:
 * NULL becomes null. */
#define VIEW(name_, kind)                                            \
	{                                                            \
		.name = (name_), .type = FIELD_TYPE_##kind, .max = 0 \
	}
json_t *row_to_json(
    const struct db_result *res, int row, const struct field *view);
json_t *rows_to_json(const struct db_result *res, const struct field *view);

/* "alice@tenant/desk" and so on; members NULL where not given. */
struct ref {
	const char *tenant, *owner, *name, *tag;
};
bool ref_parse(struct arena *arena, const char *text, struct ref *ret);

/* src/api/resource.c: what all kinds of objects have in common. */
struct resource {
	const char *name;           /* "users": the path, and audit's words */
	const char *word;           /* "user" */
	const char *noun;           /* for sentences: "user", "OSF", "VM" */
	const struct field *view;   /* of list and get */
	const struct db_stmt *list; /* $1..$5: id and ref; then filters */
	const char *const *filters; /* NULL-ended; those that end in _id are
				     * numbers */
	const struct field *fields; /* of the body */
	size_t size;
	const char *const *add;       /* members of a POST: $1.. of insert */
	const struct db_stmt *insert; /* gives id */
	const char *const *set;       /* members of a PATCH: $2.. of update */
	const struct db_stmt *update;
	/* Rows `what`: why it can't be deleted. NULL: it always can. */
	const struct db_stmt *in_use;
	const struct db_stmt *del;
	const struct db_stmt *lock; /* before in_use looks; may be NULL */
};
extern const struct resource resource_tenants, resource_users, resource_osfs,
    resource_images, resource_vms, resource_hosts, resource_homes,
    resource_rollouts, resource_rollbacks, resource_expiries,
    resource_distributions, resource_uploads;

void resource_list(struct request *req);
void resource_get(struct request *req);
void resource_add(struct request *req);
void resource_set(struct request *req);
void resource_del(struct request *req);
void resource_events(struct request *req);
/* Decodes the body by the members named; false: answered. */
bool resource_decode(struct request *req, const char *const *names,
    bool partial, void *out, uint64_t *ret_seen);
/* Inserts what was decoded, with one more parameter if the statement has one
 * more than the resource's `add`, commits and answers with the object. */
void resource_insert(
    struct request *req, const void *in, uint64_t seen, const char *extra);
/* Answers with the object as `get` gives it. */
void respond_object(struct request *req, const struct resource *resource,
    int64_t id, int status);
const char *object_text(
    struct request *req, const struct resource *resource, int64_t id);

/* Handlers of single kinds. */
void user_add(struct request *req);
void user_password(struct request *req);
void image_add(struct request *req);
void image_tag(struct request *req);
void image_untag(struct request *req);
void image_publish(struct request *req);
void image_retire(struct request *req);
void image_cancel(struct request *req);
void image_diff(struct request *req);
void image_verify(struct request *req);
void image_export(struct request *req);
void images_gc(struct request *req);
void images_settle(struct api *api);
void image_rollback(struct request *req);
void rollout_add(struct request *req);
void rollout_halt(struct request *req);
void rollout_resume(struct request *req);
void rollout_widen(struct request *req);
/* Once, when there is a loop; and whenever a roll-out may be moved on. */
void rollouts_init(struct api *api);
void rollouts_wake(struct api *api);
void upload_add(struct request *req);
void upload_put(struct request *req);
/* Once, when there is a loop; and when uploads may be needed no more. */
void uploads_init(struct api *api);
void uploads_settle(struct api *api);
void uploads_sweep(struct api *api);
void vm_expire(struct request *req);
/* The same for runs that expire. */
void expiry_init(struct api *api);
void expiry_wake(struct api *api);
void vm_add(struct request *req);
void vm_start(struct request *req);
void vm_stop(struct request *req);
void vm_suspend(struct request *req);
extern const struct db_stmt session_disconnect_stmt;
void vm_stream(struct request *req);
void host_repair(struct request *req);
void host_usage(struct request *req);
void home_act(struct request *req);
void session_list(struct request *req);
void session_disconnect(struct request *req);
void config_list(struct request *req);
void config_get(struct request *req);
void config_set(struct request *req);
void config_unset(struct request *req);
void event_list(struct request *req);
void about(struct request *req);

/* src/api/server.c */
int server_start(struct api *api, int listen_fd);
void server_stop(struct api *api);
bool server_idle(const struct api *api);

#endif
