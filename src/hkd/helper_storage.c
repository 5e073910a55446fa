/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The helper's operations on storage: arguments checked, work done by
 * qvd-hkd-vm. Those on a VM's home wait for their turn among all that is
 * done with the VM, and are not undone when main goes away: each of them is
 * whole, or as if it had not been begun. */
#include "base/arena.h"
#include "base/mem.h"
#include "base/str.h"
#include "hkd/helper_priv.h"
#include "hkd/storage_op.h"
#include "json/json.h"
#include "storage/storage.h"

#define QUICK_MS 60000
#define COPY_MS  (4 * 3600 * 1000)

struct choice {
	enum home_store home_store;
	enum root_store root_store;
	int64_t root_mb;
};

static const struct field choice_fields[] = { FIELD_ENUM_OF(struct choice,
						  home_store, home_store_words,
						  .flags = FIELD_REQUIRED),
	FIELD_ENUM_OF(struct choice, root_store, root_store_words,
	    .flags = FIELD_REQUIRED),
	FIELD(struct choice, root_mb, I64, .min = 0, .max = INT32_MAX),
	FIELD_END };

void
handle_storage_check(
    struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	const struct helper *h = arg;
	struct arena *arena = arena_new(64 * 1024);
	struct choice c = { 0 };
	struct err err = { 0 };

	closep(&fd);
	if (json_decode(args, choice_fields, &c, arena, NULL, &err) < 0 ||
	    storage_root_check(
		h->conf->data_dir, c.root_store, c.root_mb, &err) < 0 ||
	    home_check(h->conf->data_dir, c.home_store, &err) < 0)
		rpc_fail(call, &err);
	else
		rpc_reply(call, NULL, -1);
	arena_free(arena);
}

#define RUN(name, op, deadline_ms)                              \
	static void run_##name(struct job *job)                 \
	{                                                       \
		job_op(job, op, deadline_ms, helper_on_answer); \
	}                                                       \
	_Static_assert(deadline_ms > 0, "no deadline")

RUN(look, "home.look", QUICK_MS);
RUN(snapshot, "home.snapshot", COPY_MS);
RUN(restore, "home.restore", COPY_MS);
RUN(forget, "home.forget", COPY_MS);
RUN(grow, "home.grow", COPY_MS);
RUN(convert, "home.convert", COPY_MS);
RUN(collect, "storage.collect", COPY_MS);

static void
queue(struct helper *h, struct rpc_call *call, const json_t *args, bool turn,
    void (*run)(struct job *job))
{
	struct arena *arena = arena_new(64 * 1024);
	struct storage_args a = { 0 };
	struct err err = { 0 };
	int r = json_decode(args, storage_args_fields, &a, arena, NULL, &err);

	if (r == 0 && a.keep != NULL && !hv_is_checksum(a.keep))
		r = err_set(
		    &err, ERR_PARAMETER, "keep: not 64 hexadecimal digits");
	if (r < 0)
		rpc_fail(call, &err);
	else
		job_queue(
		    h, call, turn ? (uint64_t)a.vm_id : 0, args, run, false);
	arena_free(arena);
}

void
handle_home_look(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	queue(arg, call, args, true, run_look);
}

void
handle_home_snapshot(
    struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	queue(arg, call, args, true, run_snapshot);
}

void
handle_home_restore(
    struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	queue(arg, call, args, true, run_restore);
}

void
handle_home_forget(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	queue(arg, call, args, true, run_forget);
}

void
handle_home_grow(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	queue(arg, call, args, true, run_grow);
}

void
handle_home_convert(
    struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	queue(arg, call, args, true, run_convert);
}

/* Needs no turn: what it removes no start uses. */
void
handle_storage_collect(
    struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	queue(arg, call, args, false, run_collect);
}
