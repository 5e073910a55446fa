/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The helper's operations for the farm: this node's identity, and images
 * that go to and come from other nodes on a stream that main relays. */
#include "base/arena.h"
#include "base/fs.h"
#include "base/mem.h"
#include "hkd/helper_priv.h"
#include "json/json.h"

#define TRANSFER_MS (2 * 3600 * 1000)
#define PEM_MAX     (32 * 1024)

struct transfer_args {
	int64_t image_id;
	const char *checksum, *base;
	int32_t rate_kbit;
};

static const struct field pull_fields[] = {
	FIELD(struct transfer_args, image_id, I64, .flags = FIELD_REQUIRED,
	    .min = 1, .max = INT64_MAX),
	FIELD(struct transfer_args, checksum, STR, .flags = FIELD_REQUIRED,
	    .max = 64),
	FIELD(struct transfer_args, base, STR, .max = 64),
	FIELD(struct transfer_args, rate_kbit, I32, .min = 0, .max = INT32_MAX),
	FIELD_END
};
static const struct field serve_fields[] = {
	FIELD(struct transfer_args, checksum, STR, .flags = FIELD_REQUIRED,
	    .max = 64),
	FIELD_END
};

static void
run_pull(struct job *job)
{
	job_op(job, "image.pull", TRANSFER_MS, helper_on_answer);
}

static void
run_serve(struct job *job)
{
	job_op(job, "image.serve", TRANSFER_MS, helper_on_answer);
}

/* fd: the stream. */
static void
queue(struct helper *h, struct rpc_call *call, const json_t *args, int fd,
    const struct field *fields, uint64_t key, void (*run)(struct job *job))
{
	struct arena *arena = arena_new(64 * 1024);
	struct transfer_args a = { 0 };
	struct err err = { 0 };
	int r;

	r = json_decode(args, fields, &a, arena, NULL, &err);
	if (r == 0 && (!hv_is_checksum(a.checksum) ||
			  (a.base != NULL && a.base[0] != '\0' &&
			      !hv_is_checksum(a.base))))
		r = err_set(
		    &err, ERR_PARAMETER, "checksum: not 64 hexadecimal digits");
	if (r == 0 && fd < 0)
		r = err_set(&err, ERR_PARAMETER, "there is no stream");
	if (r < 0) {
		closep(&fd);
		rpc_fail(call, &err);
	} else {
		job_queue_fd(h, call, key, args, run, true, fd);
	}
	arena_free(arena);
}

/* Beside imports and collections, which a slow line must not hold up. */
void
handle_image_pull(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	queue(arg, call, args, fd, pull_fields, JOB_KEY_PULL, run_pull);
}

void
handle_image_serve(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	queue(arg, call, args, fd, serve_fields, 0, run_serve);
}

static char *
farm_path(const struct helper *h, const char *name)
{
	_cleanup_(freep)
	char *file = xasprintf("farm/%s", name);

	return node_conf_data_path(h->conf, file);
}

/* Else it would be found out when it is made, and its tags wait for nodes that
 * never take it. */
int
helper_check_signer(const struct helper *h, struct err *err)
{
	_cleanup_(freep)
	char *public = farm_path(h, "signing.pub");
	_cleanup_(freep)
	char *private = farm_path(h, "signing.key");

	if (!fs_exists(public) || fs_exists(private))
		return 0;
	return err_set(err, ERR_CONFIG,
	    "this farm's images are signed, and this node has no %s: no other "
	    "node would take what is made here; copy it from the node that "
	    "has it, or make the image there",
	    private);
}

static int
read_file(const struct helper *h, const char *name, char **ret, struct err *err)
{
	_cleanup_(freep)
	char *path = farm_path(h, name);
	int r = fs_read_file(path, PEM_MAX, ret, NULL, err);

	return r < 0 ? err_wrap(err, r,
			   "this node has no certificate of the farm (qvd "
			   "farm init, or qvd farm certificate on the node "
			   "that has the authority)")
		     : 0;
}

void
handle_farm_identity(
    struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	_cleanup_(freep)
	char *ca = NULL;
	_cleanup_(freep)
	char *cert = NULL;
	_cleanup_(wipe_strp)
	char *key = NULL;
	struct err err;

	closep(&fd);
	if (read_file(arg, "ca.crt", &ca, &err) < 0 ||
	    read_file(arg, "node.crt", &cert, &err) < 0 ||
	    read_file(arg, "node.key", &key, &err) < 0)
		rpc_fail(call, &err);
	else
		rpc_reply(call,
		    json_pack("{ss ss ss}", "ca", ca, "cert", cert, "key", key),
		    -1);
}
