/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The helper's operations that look for what a crash left behind, and remove
 * it one by one. */
#include "base/arena.h"
#include "base/mem.h"
#include "hkd/helper_priv.h"
#include "json/json.h"

#define LOOK_MS   30000
#define REMOVE_MS 300000 /* a big tree */

struct remains_args {
	int64_t vm_id;
	const char *kind;
	const char *name;
};

static const struct field left_fields[] = { FIELD(struct remains_args, vm_id,
						I64, .flags = FIELD_REQUIRED,
						.min = 1, .max = HV_VM_ID_MAX),
	FIELD_END };
static const struct field none_fields[] = { FIELD_END };
static const struct field remove_fields[] = {
	FIELD(struct remains_args, vm_id, I64, .flags = FIELD_REQUIRED,
	    .min = 0, .max = HV_VM_ID_MAX),
	FIELD(
	    struct remains_args, kind, STR, .flags = FIELD_REQUIRED, .max = 32),
	FIELD(struct remains_args, name, STR, .flags = FIELD_REQUIRED,
	    .max = 4095),
	FIELD_END
};

/* A VM's turn if it is about one, so that it meets no start. */
static void
check_and_queue(struct helper *h, struct rpc_call *call, const json_t *args,
    int fd, const struct field *fields, void (*run)(struct job *job))
{
	struct arena *arena = arena_new(64 * 1024);
	struct remains_args a = { 0 };
	struct err err = { 0 };

	closep(&fd);
	if (json_decode(args, fields, &a, arena, NULL, &err) < 0)
		rpc_fail(call, &err);
	else
		job_queue(h, call, (uint64_t)a.vm_id, args, run, false);
	arena_free(arena);
}

static void
on_answer(const json_t *result, int fd, const struct err *err, void *arg)
{
	closep(&fd);
	if (err != NULL)
		job_fail(arg, err);
	else
		job_done(arg, json_deep_copy(result), -1);
}

static void
on_left(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct job *job = arg;
	json_t *answer;

	if (err != NULL) {
		on_answer(result, fd, err, arg);
		return;
	}
	closep(&fd);
	answer = json_deep_copy(result);
	if (confine_has(job->helper->confine, job->vm_id))
		json_array_append_new(json_object_get(answer, "left"),
		    json_string("firewall elements"));
	job_done(job, answer, -1);
}

static void
run_left(struct job *job)
{
	job_op(job, "vm.left", LOOK_MS, on_left);
}

void
handle_vm_left(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	check_and_queue(arg, call, args, fd, left_fields, run_left);
}

static void
run_remains(struct job *job)
{
	job_op(job, "node.remains", LOOK_MS, on_answer);
}

void
handle_node_remains(
    struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	check_and_queue(arg, call, args, fd, none_fields, run_remains);
}

static void
run_remove(struct job *job)
{
	job_op(job, "node.remove", REMOVE_MS, on_answer);
}

void
handle_node_remove(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	check_and_queue(arg, call, args, fd, remove_fields, run_remove);
}
