/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The helper's operations on images: arguments checked, work done by
 * qvd-hkd-image. Imports run one at a time, checkouts beside them. */
#include "base/arena.h"
#include "base/mem.h"
#include "base/str.h"
#include "hkd/helper_priv.h"
#include "json/json.h"
#include "storage/storage.h"

#define IMPORT_MS   (2 * 3600 * 1000)
#define CLEAN_MS    30000
#define CHECKOUT_MS (1800 * 1000)

#define GONE_MAX 10000

struct image_args {
	int64_t image_id;
	int64_t vm_id;
	int32_t idmap_slot;
	const char *source, *sha256;
	const char *author;
	const char *message;
	const char *version;
	const char *checksum;
	enum root_store root_store; /* what it is checked out for */
	bool machine;               /* and for virtual machines */
	const char *parent, *base, *login;
	const char *from, *to;
	const char *name;
	/* Of a virtual machine's commit. */
	const char *hypervisor, *accel;
};

static const struct field import_fields[] = { FIELD(struct image_args, image_id,
						  I64, .flags = FIELD_REQUIRED,
						  .min = 1, .max = INT64_MAX),
	FIELD(struct image_args, source, STR, .flags = FIELD_REQUIRED,
	    .max = 4096),
	FIELD(struct image_args, sha256, STR, .max = 64),
	FIELD(struct image_args, author, STR, .max = 256),
	FIELD(struct image_args, message, STR, .max = 4096),
	FIELD(struct image_args, version, STR, .max = 64),
	FIELD(struct image_args, parent, STR, .max = 64), FIELD_END };

static const struct field commit_fields[] = { FIELD(struct image_args, image_id,
						  I64, .flags = FIELD_REQUIRED,
						  .min = 1, .max = INT64_MAX),
	FIELD(struct image_args, vm_id, I64, .flags = FIELD_REQUIRED, .min = 1,
	    .max = HV_VM_ID_MAX),
	FIELD(struct image_args, idmap_slot, I32, .flags = FIELD_REQUIRED,
	    .min = 0, .max = STORAGE_SLOT_MAX),
	FIELD(struct image_args, base, STR, .flags = FIELD_REQUIRED, .max = 64),
	FIELD(struct image_args, login, STR, .max = 64),
	FIELD(struct image_args, hypervisor, STR, .max = 16),
	FIELD(struct image_args, accel, STR, .max = 8),
	FIELD(struct image_args, author, STR, .max = 256),
	FIELD(struct image_args, message, STR, .max = 4096),
	FIELD(struct image_args, version, STR, .max = 64),
	FIELD(struct image_args, parent, STR, .max = 64), FIELD_END };

static const struct field diff_fields[] = {
	FIELD(struct image_args, from, STR, .flags = FIELD_REQUIRED, .max = 64),
	FIELD(struct image_args, to, STR, .flags = FIELD_REQUIRED, .max = 64),
	FIELD_END
};

static const struct field export_fields[] = { FIELD(struct image_args, checksum,
						  STR, .flags = FIELD_REQUIRED,
						  .max = 64),
	FIELD(struct image_args, name, STR,
	    .flags = FIELD_REQUIRED | FIELD_NAME, .max = 200),
	FIELD_END };

static const struct field checksum_fields[] = {
	FIELD(struct image_args, checksum, STR, .flags = FIELD_REQUIRED,
	    .max = 64),
	FIELD_ENUM_OF(struct image_args, root_store, root_store_words),
	FIELD(struct image_args, machine, BOOL), FIELD_END
};

static void
on_answer(const json_t *result, int fd, const struct err *err, void *arg)
{
	if (err != NULL) {
		closep(&fd);
		job_fail(arg, err);
	} else {
		job_done(arg, json_deep_copy(result), fd);
	}
}

static void
on_tidied(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct job *job = arg;

	closep(&fd);
	job_fail(job, &job->err);
}

/* What a killed import has unpacked, or an export packed, may be many
 * gigabytes: now, not before the next one. */
static void
on_made(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct job *job = arg;

	if (err == NULL) {
		on_answer(result, fd, err, arg);
		return;
	}
	closep(&fd);
	job->err = *err;
	job_op(job, "image.tidy", CHECKOUT_MS, on_tidied);
}

/* Hours of work, which nobody may want any more when its turn comes. */
static void
run_long(struct job *job, const char *op, op_done_cb done)
{
	struct err err = { 0 };

	if (job->cancelled) {
		err_set(&err, ERR_CANCELLED, "%s: cancelled", op);
		job_fail(job, &err);
		return;
	}
	job_op(job, op, IMPORT_MS, done);
}

static void
run_import(struct job *job)
{
	run_long(job, "image.import", on_made);
}

/* The machine that has told its changes is removed, whatever became of it. */
static void
on_unpacked(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct job *job = arg;

	closep(&fd);
	if (err_is_set(&job->err))
		job_fail(job, &job->err);
	else if (err != NULL)
		job_fail(job, err);
	else
		run_long(job, "image.commit", on_made);
}

/* fd: what was changed, which the import gets. */
static void
on_packed(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct job *job = arg;

	job->fd = fd;
	if (err != NULL)
		job->err = *err;
	job_op(job, "vm.clean", CLEAN_MS, on_unpacked);
}

/* A container's changes can be seen; a machine's have to be told. */
static void
run_commit(struct job *job)
{
	bool machine = str_eq(json_get_str(job->args, "hypervisor", ""),
	    hypervisor_to_str(HYPERVISOR_KVM));

	if (machine)
		run_long(job, "vm.pack", on_packed);
	else
		run_long(job, "image.commit", on_made);
}

static void
run_diff(struct job *job)
{
	job_op(job, "image.diff", CHECKOUT_MS, on_answer);
}

static void
run_export(struct job *job)
{
	run_long(job, "image.export", on_made);
}

static void
run_refs(struct job *job)
{
	job_op(job, "image.refs", CHECKOUT_MS, on_answer);
}

static void
run_gc(struct job *job)
{
	job_op(job, "image.gc", CHECKOUT_MS, on_answer);
}

static void
run_checkout(struct job *job)
{
	job_op(job, "image.checkout", CHECKOUT_MS, on_answer);
}

static void
run_verify(struct job *job)
{
	job_op(job, "image.verify", CHECKOUT_MS, on_answer);
}

static int
check_checksum(const char *value, const char *name, struct err *err)
{
	if (hv_is_checksum(value))
		return 0;
	return err_set(
	    err, ERR_PARAMETER, "%s: not 64 hexadecimal digits", name);
}

/* What all that make a commit are given. */
static int
check_commit(const struct image_args *a, struct err *err)
{
	if (a->version != NULL && a->version[0] != '\0' &&
	    !str_is_token(a->version, 64))
		return err_set(err, ERR_PARAMETER,
		    "version: letters, digits and punctuation only");
	/* The first one has none. */
	return a->parent == NULL || a->parent[0] == '\0'
		   ? 0
		   : check_checksum(a->parent, "parent", err);
}

static int
check_import(const json_t *args, struct arena *arena, struct err *err)
{
	struct image_args a = { 0 };
	int r;

	if ((r = json_decode(args, import_fields, &a, arena, NULL, err)) < 0)
		return r;
	if (a.source[0] != '/')
		return err_set(err, ERR_PARAMETER,
		    "source: '%.200s' is not an absolute path", a.source);
	if (a.sha256 != NULL &&
	    (r = check_checksum(a.sha256, "sha256", err)) < 0)
		return r;
	return check_commit(&a, err);
}

void
handle_image_import(
    struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct arena *arena = arena_new(64 * 1024);
	struct err err = { 0 };

	closep(&fd);
	if (check_import(args, arena, &err) < 0 ||
	    helper_check_signer(arg, &err) < 0)
		rpc_fail(call, &err);
	else
		job_queue(arg, call, JOB_KEY_IMPORT, args, run_import, true);
	arena_free(arena);
}

static void
queue_checksum(struct helper *h, struct rpc_call *call, const json_t *args,
    uint64_t key, void (*run)(struct job *job), bool undo)
{
	struct arena *arena = arena_new(64 * 1024);
	struct image_args a = { 0 };
	struct err err = { 0 };
	int r;

	r = json_decode(args, checksum_fields, &a, arena, NULL, &err);
	if (r == 0 && !hv_is_checksum(a.checksum))
		r = err_set(
		    &err, ERR_PARAMETER, "checksum: not 64 hexadecimal digits");
	if (r < 0)
		rpc_fail(call, &err);
	else
		job_queue(h, call, key, args, run, undo);
	arena_free(arena);
}

void
handle_image_checkout(
    struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	queue_checksum(arg, call, args, JOB_KEY_CHECKOUT, run_checkout, false);
}

void
handle_image_verify(
    struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	queue_checksum(arg, call, args, 0, run_verify, true);
}

/* In the VM's turn, so that it doesn't start meanwhile. */
void
handle_image_commit(
    struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct arena *arena = arena_new(64 * 1024);
	struct image_args a = { 0 };
	struct err err = { 0 };

	closep(&fd);
	if (json_decode(args, commit_fields, &a, arena, NULL, &err) < 0 ||
	    check_commit(&a, &err) < 0 ||
	    check_checksum(a.base, "base", &err) < 0 ||
	    helper_check_signer(arg, &err) < 0)
		rpc_fail(call, &err);
	else if (a.login != NULL && a.login[0] != '\0' &&
		 !str_is_name(a.login, 64))
		rpc_fail(call,
		    (err_set(&err, ERR_PARAMETER, "login: no name of a user"),
			&err));
	else
		job_queue(arg, call, (uint64_t)a.vm_id, args, run_commit, true);
	arena_free(arena);
}

void
handle_image_diff(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct arena *arena = arena_new(64 * 1024);
	struct image_args a = { 0 };
	struct err err = { 0 };

	closep(&fd);
	if (json_decode(args, diff_fields, &a, arena, NULL, &err) < 0 ||
	    check_checksum(a.from, "from", &err) < 0 ||
	    check_checksum(a.to, "to", &err) < 0)
		rpc_fail(call, &err);
	else
		job_queue(arg, call, 0, args, run_diff, true);
	arena_free(arena);
}

void
handle_image_export(
    struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct arena *arena = arena_new(64 * 1024);
	struct image_args a = { 0 };
	struct err err = { 0 };

	closep(&fd);
	if (json_decode(args, export_fields, &a, arena, NULL, &err) < 0 ||
	    check_checksum(a.checksum, "checksum", &err) < 0)
		rpc_fail(call, &err);
	else
		job_queue(arg, call, JOB_KEY_EXPORT, args, run_export, true);
	arena_free(arena);
}

void
handle_image_refs(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	job_queue(arg, call, 0, args, run_refs, true);
}

/* {"gone": [ids], "dry_run": bool} */
void
handle_image_gc(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	const json_t *gone = json_object_get(args, "gone"), *id;
	struct err err = { 0 };
	size_t i;

	closep(&fd);
	if (!json_is_array(gone) || json_array_size(gone) > GONE_MAX)
		err_set(&err, ERR_PARAMETER,
		    "gone: a list of at most %d images' ids", GONE_MAX);
	json_array_foreach (gone, i, id)
		if (json_integer_value(id) <= 0)
			err_set(&err, ERR_PARAMETER, "gone: not an id");
	if (err_is_set(&err))
		rpc_fail(call, &err);
	else
		job_queue(arg, call, JOB_KEY_IMPORT, args, run_gc, false);
}
