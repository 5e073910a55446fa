/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The check before every request: is this host in service, who is it, and is
 * he or she allowed in. The order is that of QVD's protocol: host known,
 * credentials, host blocked, host's state.
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "json/json.h"
#include "l7r/broker.h"
#include "l7r/broker_sql.h"

#define LOGINS_MAX      4000 /* under way at once */
#define LOGINS_ADDRESS  1000 /* of those, from one address */
#define BUSY_PAUSE_MS   100
#define VERIFY_MS       60000
#define VERIFY_TRIES    3
#define VERIFY_PAUSE_MS 200
#define REFUSED         "Wrong login or password"

struct login_op {
	struct list link;
	struct broker *broker;
	struct worker_link *worker; /* NULL: it has gone */
	struct rpc_call *call;
	json_t *args;
	struct login login; /* as far as it is known */
	struct auth_name name;
	char *hash;
	bool user_blocked;
	bool host_blocked;
	char host_state[32];
	bool counted; /* by the limiter */
	bool queued;  /* for the limiter; or its pause */
	int *from;    /* how many are under way from this address */
	struct timer pause;
	struct rpc_request *request;
	struct auth_link *auth;
	int tries;
};

static const char *
address_of(const struct login_op *op)
{
	return json_get_str(op->args, "address", "?");
}

/* The end of every path. */
static void
op_free(struct login_op *op, enum auth_limit_end how)
{
	struct broker *b = op->broker;

	if (op->counted)
		auth_limit_end(b->limit, op->name.login, address_of(op), how,
		    time_now_ms());
	if (op->request != NULL) {
		rpc_request_cancel(op->request);
		op->auth->pending--;
	}
	list_del(&op->link);
	b->n_logins--;
	if (op->from != NULL && --*op->from == 0)
		free(map_del_str(&b->addresses, address_of(op)));
	timer_done(&op->pause);
	db_forget(b->db, op);
	wipe_str(op->hash);
	json_decref(op->args);
	free(op);
}

static void
fail(struct login_op *op, enum err_code code, const char *text)
{
	enum auth_limit_end how = AUTH_LIMIT_CANCELLED;
	struct failure f;

	failure_set(&f, 0, code, "%s", text);
	if (code == ERR_AUTH) {
		log_info("login of '%s@%s' from %s refused (ref %s)",
		    op->name.login, op->name.tenant, address_of(op), f.ref);
		how = AUTH_LIMIT_FAILED;
	} else {
		log_err(LOG_LEVEL_WARN, &f.err, "login (ref %s)", f.ref);
	}
	if (code == ERR_AUTH && op->login.user_id != 0)
		event_write(op->broker,
		    &(struct event){ .name = "user.login-failed",
			.user_id = op->login.user_id,
			.text = op->user_blocked ? "the user is blocked" : text,
			.duration_ms = -1,
			.failure = &f });
	reply_failure(op->call, &f);
	op_free(op, how);
}

static void
fail_err(struct login_op *op, const struct err *err)
{
	char text[ERR_MSG_MAX];

	str_copy(text, sizeof(text), err->msg);
	fail(op, err->code, text);
}

static bool
is_for(const struct login_op *op, const char *what)
{
	return str_eq(json_get_str(op->args, "for", ""), what);
}

/* Last: is the host in service? */
static void
check_host(struct login_op *op)
{
	char text[64];

	if (op->host_blocked && !is_for(op, "authenticate")) {
		fail(op, ERR_UNAVAILABLE, "Server is blocked");
		return;
	}
	if (!str_eq(op->host_state, "running") &&
	    (is_for(op, "ping") || is_for(op, "list"))) {
		snprintf(text, sizeof(text), "Server is %s", op->host_state);
		fail(op, ERR_UNAVAILABLE, text);
		return;
	}
	rpc_reply(op->call, json_object(), -1);
	op_free(op, AUTH_LIMIT_OK);
}

static void
remember(struct login_op *op)
{
	uint64_t conn = (uint64_t)json_get_int(op->args, "conn", 0);
	struct login *login;

	if (op->worker == NULL)
		return;
	login = map_get(&op->worker->logins, conn);
	if (login == NULL) {
		login = new0(struct login);
		map_set(&op->worker->logins, conn, login);
	}
	*login = op->login;
}

static void
accepted(struct login_op *op)
{
	if (op->user_blocked) {
		fail(op, ERR_AUTH, REFUSED);
		return;
	}
	remember(op);
	check_host(op);
}

/* Passwords: an auth process is asked. */

static void
on_verified(const json_t *answer, int fd, const struct err *err, void *arg)
{
	struct login_op *op = arg;

	closep(&fd);
	op->request = NULL;
	op->auth->pending--;
	op->auth = NULL;
	if (answer != NULL && json_get_bool(answer, "ok", false)) {
		accepted(op);
	} else if (answer != NULL) {
		fail(op, ERR_AUTH, REFUSED);
	} else if (err->code == ERR_UNAVAILABLE && ++op->tries < VERIFY_TRIES) {
		timer_start(&op->pause, VERIFY_PAUSE_MS);
	} else {
		fail_err(op, err);
	}
}

/* The process that goes away must not be asked again. */
void
auth_link_gone(struct auth_link *a)
{
	struct login_op *op;

	LIST_EACH (&a->broker->logins, op, struct login_op, link) {
		if (op->auth != a)
			continue;
		rpc_request_cancel(take_ptr(op->request));
		op->auth = NULL;
		timer_start(&op->pause, VERIFY_PAUSE_MS);
	}
}

static struct auth_link *
least_busy(struct broker *b)
{
	struct auth_link *a, *best = NULL;

	LIST_EACH (&b->auths, a, struct auth_link, link)
		if (best == NULL || a->pending < best->pending)
			best = a;
	return best;
}

static void
verify(struct login_op *op)
{
	struct auth_link *a = least_busy(op->broker);
	json_t *args;

	if (a == NULL && ++op->tries < VERIFY_TRIES * 10) {
		timer_start(&op->pause, VERIFY_PAUSE_MS);
		return;
	}
	if (a == NULL) {
		fail(op, ERR_UNAVAILABLE,
		    "the authenticators of this node do not start; see the "
		    "log of qvd-l7r");
		return;
	}
	args = json_pack("{s:s, s:s, s:O}", "tenant", op->name.tenant, "login",
	    op->name.login, "password", json_object_get(op->args, "password"));
	if (op->hash != NULL)
		json_object_set_new(args, "hash", json_string(op->hash));
	op->auth = a;
	a->pending++;
	op->request =
	    rpc_ask(a->rpc, "verify", args, -1, VERIFY_MS, on_verified, op);
}

/* Proves that these are the credentials that were checked before. */
static void
digest(const struct login_op *op, const char *secret,
    unsigned char ret[static DIGEST_BYTES])
{
	const char *parts[] = { op->name.tenant, op->name.login,
		op->hash != NULL ? op->hash : "", secret };
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	size_t i;
	bool ok = md != NULL &&
		  EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
		  EVP_DigestUpdate(
		      md, op->broker->seed, sizeof(op->broker->seed)) == 1;

	for (i = 0; ok && i < ARRAY_SIZE(parts); i++)
		ok = EVP_DigestUpdate(md, parts[i], strlen(parts[i]) + 1) == 1;
	if (!ok || EVP_DigestFinal_ex(md, ret, NULL) != 1)
		abort();
	EVP_MD_CTX_free(md);
}

static bool
proved_before(struct login_op *op)
{
	uint64_t conn = (uint64_t)json_get_int(op->args, "conn", 0);
	const struct login *known;

	digest(op, json_get_str(op->args, "password", ""), op->login.digest);
	if (op->worker == NULL)
		return false;
	known = map_get(&op->worker->logins, conn);
	return known != NULL && known->user_id == op->login.user_id &&
	       memcmp(known->digest, op->login.digest, DIGEST_BYTES) == 0;
}

static void
take_user(struct login_op *op, const struct db_result *res)
{
	const char *hash = db_str(res, 0, "password_hash");

	op->login.user_id = db_i64(res, 0, "id");
	op->login.tenant_id = db_i64(res, 0, "tenant_id");
	str_copy(
	    op->login.login, sizeof(op->login.login), db_str(res, 0, "login"));
	str_copy(op->login.tenant, sizeof(op->login.tenant),
	    db_str(res, 0, "tenant"));
	op->user_blocked =
	    db_bool(res, 0, "blocked") || db_bool(res, 0, "tenant_blocked");
	op->hash = hash != NULL ? xstrdup(hash) : NULL;
}

/* An unknown user takes the same way, and the same time. */
static void
begin_verify(struct login_op *op)
{
	int64_t wait = auth_limit_begin(
	    op->broker->limit, op->name.login, address_of(op), time_now_ms());

	op->queued = wait == AUTH_LIMIT_BUSY;
	op->counted = !op->queued;
	if (op->queued)
		timer_start(&op->pause, BUSY_PAUSE_MS);
	else if (wait > 0)
		timer_start(&op->pause, wait);
	else
		verify(op);
}

static void
on_pause_over(void *arg)
{
	struct login_op *op = arg;

	if (op->queued)
		begin_verify(op);
	else
		verify(op);
}

static void
on_user(const struct db_result *res, const struct err *err, void *arg)
{
	struct login_op *op = arg;

	if (err != NULL) {
		fail_err(op, err);
		return;
	}
	if (db_rows(res) > 0) {
		take_user(op, res);
		if (proved_before(op)) {
			accepted(op);
			return;
		}
	}
	begin_verify(op);
}

static void
on_token(const struct db_result *res, const struct err *err, void *arg)
{
	struct login_op *op = arg;

	if (err != NULL) {
		fail_err(op, err);
	} else if (db_rows(res) == 0) {
		fail(op, ERR_AUTH, "The token is unknown or has expired");
	} else {
		take_user(op, res);
		op->login.token_vm_id = db_i64(res, 0, "token_vm_id");
		accepted(op);
	}
}

static void
find_user(struct login_op *op)
{
	const char *token = json_get_str(op->args, "token", NULL);
	struct db_params p = { 0 };
	char hash[HASH_TEXT];
	struct err err = { 0 };

	if (token != NULL) {
		hash_text(hash, token);
		db_param_str(&p, hash);
		db_exec(
		    op->broker->db, &sql_user_by_token, &p, 0, on_token, op);
		return;
	}
	if (auth_name_parse(json_get_str(op->args, "login", ""),
		op->broker->settings.separators, op->broker->settings.tenant,
		&op->name, &err) < 0) {
		fail(op, ERR_AUTH, REFUSED);
		return;
	}
	db_param_str(&p, op->name.tenant);
	db_param_str(&p, op->name.login);
	db_param_str(&p, op->name.folded);
	db_exec(op->broker->db, &sql_user_by_login, &p, 0, on_user, op);
}

static void
on_host(const struct db_result *res, const struct err *err, void *arg)
{
	struct login_op *op = arg;
	const char *refuse = json_get_str(op->args, "refuse", NULL);

	if (err == NULL && err_is_set(&op->broker->schema_err))
		err = &op->broker->schema_err;
	if (err != NULL) {
		fail_err(op, err);
		return;
	}
	if (db_rows(res) == 0) {
		fail(op, ERR_UNAVAILABLE,
		    "Host is not registered in the database");
		return;
	}
	op->broker->host_id = db_i64(res, 0, "id");
	op->host_blocked = db_bool(res, 0, "blocked");
	str_copy(
	    op->host_state, sizeof(op->host_state), db_str(res, 0, "state"));
	if (is_for(op, "ping"))
		check_host(op);
	else if (refuse != NULL)
		fail(op, ERR_AUTH, refuse);
	else
		find_user(op);
}

/* The client left. What is being verified still counts when it fails. */
static void
on_cancel(void *arg)
{
	struct login_op *op = arg;

	if (!timer_active(&op->pause))
		return;
	reply_failure(op->call, &(struct failure){ 0 });
	op_free(op, AUTH_LIMIT_CANCELLED);
}

static void
count_address(struct login_op *op)
{
	struct map *addresses = &op->broker->addresses;

	op->from = map_get_str(addresses, address_of(op));
	if (op->from == NULL) {
		op->from = new0(int);
		map_set_str(addresses, address_of(op), op->from);
	}
	++*op->from;
}

void
op_login(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker_link *w = arg;
	struct broker *b = w->broker;
	struct db_params p = { 0 };
	struct login_op *op;

	closep(&fd);
	op = new0(struct login_op);
	op->broker = b;
	op->worker = w;
	op->call = call;
	/* The message is freed, and wiped, when we return. */
	op->args = json_incref((json_t *)(uintptr_t)args);
	list_init(&op->link);
	list_add(&b->logins, &op->link);
	b->n_logins++;
	timer_init(&op->pause, b->loop, on_pause_over, op);
	rpc_call_on_cancel(call, on_cancel, op);
	count_address(op);
	if (b->n_logins > LOGINS_MAX || *op->from > LOGINS_ADDRESS) {
		fail(op, ERR_UNAVAILABLE,
		    "Too many users log in at this moment; try again");
		return;
	}
	db_param_str(&p, b->host_name);
	db_exec(b->db, &sql_host, &p, 0, on_host, op);
}

void
login_worker_gone(struct worker_link *w)
{
	struct login_op *op;
	struct login *login;

	LIST_EACH (&w->broker->logins, op, struct login_op, link)
		if (op->worker == w)
			op->worker = NULL;
	MAP_EACH (&w->logins, login)
		free(login);
	map_done(&w->logins);
}

void
logins_free(struct broker *b)
{
	struct login_op *op;

	LIST_EACH (&b->logins, op, struct login_op, link) {
		reply_failure(op->call, &(struct failure){ 0 });
		op_free(op, AUTH_LIMIT_CANCELLED);
	}
}
