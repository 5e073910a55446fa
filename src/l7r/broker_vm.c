/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "base/mem.h"
#include "l7r/broker.h"
#include "l7r/broker_sql.h"

#define ROWS_BYTES      (256 * 1024)
#define TXN_DEADLINE_MS 10000

static void
answered(struct vm_read *vr, const struct err *err)
{
	if (err != NULL && !err_is_set(&vr->err))
		vr->err = *err;
	if (--vr->pending > 0)
		return;
	vr->done(vr, err_is_set(&vr->err) ? &vr->err : NULL);
}

/* A row, if there is one, into its struct. */
static void
take_row(struct vm_read *vr, const struct db_result *res, const struct err *err,
    const struct field *fields, void *row, const void **ret_row)
{
	struct err bad = { 0 };

	if (err == NULL && db_rows(res) > 0) {
		if (db_row_decode(res, 0, fields, row, vr->arena, &bad) < 0)
			err = &bad;
		else
			*ret_row = row;
	}
	answered(vr, err);
}

#define TAKE(name_, fields_)                                               \
	static void on_##name_(                                            \
	    const struct db_result *res, const struct err *err, void *arg) \
	{                                                                  \
		struct vm_read *vr = arg;                                  \
		const void *row = NULL;                                    \
                                                                           \
		if (err == NULL && db_rows(res) > 0)                       \
			vr->in.name_ = &vr->name_;                         \
		take_row(vr, res, err, fields_, &vr->name_, &row);         \
	}

TAKE(vm, vm_fields)
TAKE(runtime, vm_runtime_fields)
TAKE(session, session_fields)
TAKE(user, user_fields)
TAKE(tenant, tenant_fields)

static void
on_host(const struct db_result *res, const struct err *err, void *arg)
{
	struct vm_read *vr = arg;

	if (err == NULL && db_rows(res) > 0) {
		vr->in.host_name =
		    arena_strdup(vr->arena, db_str(res, 0, "name"));
		vr->in.host_running = db_bool(res, 0, "running");
	}
	answered(vr, err);
}

static void
on_all_read(struct vm_read *vr, const struct err *err)
{
	struct err gone = { 0 };

	if (err == NULL && (vr->in.user == NULL || vr->in.tenant == NULL)) {
		err_set(&gone, ERR_AUTH, "the user has been deleted");
		err = &gone;
	}
	vr->cb(vr, err);
}

static void
read_by_id(struct vm_read *vr, const struct db_stmt *stmt, int64_t id, db_cb cb)
{
	struct db_params p = { 0 };

	db_param_i64(&p, id);
	vr->pending++;
	db_txn_exec(vr->txn, stmt, &p, cb, vr);
}

static void
on_begun(struct db_txn *txn, const struct err *err, void *arg)
{
	struct vm_read *vr = arg;
	int64_t vm_id = vr->in.vm_id;

	if (err != NULL) {
		vr->cb(vr, err);
		return;
	}
	vr->txn = txn;
	vr->done = on_all_read;
	/* The lock first: each later statement sees what is true under it. */
	read_by_id(vr, &sql_lock_vm, vm_id, on_vm);
	read_by_id(vr, &sql_runtime, vm_id, on_runtime);
	read_by_id(vr, &sql_session, vm_id, on_session);
	read_by_id(vr, &sql_user, vr->user.id, on_user);
	read_by_id(vr, &sql_tenant, vr->tenant.id, on_tenant);
	read_by_id(vr, &sql_vm_host, vm_id, on_host);
}

void
vm_read_start(struct vm_read *vr, struct broker *b, int64_t vm_id,
    const struct login *login,
    void (*cb)(struct vm_read *vr, const struct err *err))
{
	bool other = login->token_vm_id != 0 && login->token_vm_id != vm_id;

	*vr = (struct vm_read){ .broker = b, .cb = cb };
	vr->arena = arena_new(ROWS_BYTES);
	vr->in.vm_id = vm_id;
	/* A token for one VM gives no right to another. */
	vr->in.user_id = other ? -1 : login->user_id;
	vr->user.id = login->user_id;
	vr->tenant.id = login->tenant_id;
	db_begin(b->db, TXN_DEADLINE_MS, on_begun, vr);
}

static void
on_done(const struct db_result *res, const struct err *err, void *arg)
{
	answered(arg, err);
}

void
vm_read_exec(struct vm_read *vr, const struct db_stmt *stmt,
    const struct db_params *params,
    void (*done)(struct vm_read *vr, const struct err *err))
{
	vr->pending++;
	vr->done = done;
	db_txn_exec(vr->txn, stmt, params, on_done, vr);
}

static void
on_committed(const struct db_result *res, const struct err *err, void *arg)
{
	struct vm_read *vr = arg;

	vr->txn = NULL;
	vr->done(vr, err);
}

void
vm_read_commit(
    struct vm_read *vr, void (*done)(struct vm_read *vr, const struct err *err))
{
	vr->committing = true;
	vr->done = done;
	db_commit(vr->txn, on_committed, vr);
}

void
vm_read_end(struct vm_read *vr)
{
	if (vr->broker == NULL)
		return;
	if (vr->txn != NULL && !vr->committing)
		db_rollback(vr->txn);
	vr->txn = NULL;
	db_forget(vr->broker->db, vr);
	arena_free(vr->arena);
	vr->broker = NULL;
}
