/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd-api: the REST API on <run>/api.sock. Started as root it binds, becomes
 * the user qvd-api for ever, and only then reads a request. */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "api/api.h"
#include "api/upload_files.h"
#include "auth/auth.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "db/migrate.h"

#define USER         "qvd-api"
#define GROUP        "qvd" /* may open hkd.sock */
#define STOP_MS      3000
#define TRANSACTIONS 4

void
about(struct request *req)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", json_string("QVD"));
	json_object_set_new(o, "version", json_string(QVD_VERSION));
	json_object_set_new(o, "host", json_string(req->api->conf.name));
	respond(req, 200, o);
}

static void
on_schema(const struct db_result *res, const struct err *err, void *arg)
{
	struct api *api = arg;
	struct err bad = { 0 };

	if (res == NULL) {
		log_err(LOG_LEVEL_ERROR, err, "read the schema's version");
		return;
	}
	if (db_schema_check((int)db_i64(res, 0, "version"), &bad) < 0) {
		log_err(LOG_LEVEL_ERROR, &bad, "database");
		api->schema_err = bad;
		return;
	}
	api->schema_err.code = ERR_NONE;
	/* What was notified while we were not connected. */
	images_settle(api);
	rollouts_wake(api);
	expiry_wake(api);
	uploads_settle(api);
	uploads_sweep(api);
	await_wake(api, NULL);
}

static void
on_up(struct db *db, void *arg)
{
	struct db_params p = { .n = 0 };

	log_info("database connected");
	db_exec(db, &db_schema_stmt, &p, 0, on_schema, arg);
}

static void
on_down(struct db *db, const struct err *err, void *arg)
{
	log_err(LOG_LEVEL_WARN, err, "database");
}

static void
on_notify(struct db *db, const char *channel, const char *payload, void *arg)
{
	struct api *api = arg;

	/* Before anybody looks: answers come in the order of asking. */
	if (str_eq(channel, "qvd_images")) {
		images_settle(api);
		uploads_settle(api);
	}
	if (str_eq(channel, "qvd_uploads"))
		uploads_sweep(api);
	/* A wave may have waited for a node to get an image. */
	if (str_eq(channel, "qvd_rollouts") || str_eq(channel, "qvd_images"))
		rollouts_wake(api);
	if (str_eq(channel, "qvd_expiry"))
		expiry_wake(api);
	await_wake(api, channel);
	if (str_eq(channel, "qvd_image_progress"))
		await_wake(api, "qvd_images");
	if (str_eq(channel, "qvd_vms"))
		await_wake(api, "qvd_vm_runtimes");
}

static void
on_stop_timer(void *arg)
{
	struct api *api = arg;

	log_warn("a request isn't done yet; ending all the same");
	loop_stop(api->loop);
}

static void
on_signal(int signum, void *arg)
{
	struct api *api = arg;

	if (api->stopping)
		return;
	log_info("stopping");
	api->stopping = true;
	server_stop(api);
	if (server_idle(api))
		loop_stop(api->loop);
	else
		timer_start(&api->stop_timer, STOP_MS);
}

static int
run(struct api *api, int fd)
{
	static const char *const channels[] = { "qvd_vms", "qvd_vm_runtimes",
		"qvd_homes", "qvd_images", "qvd_image_progress", "qvd_rollouts",
		"qvd_expiry", "qvd_uploads", NULL };
	static const struct db_callbacks cbs = {
		.on_up = on_up, .on_down = on_down, .on_notify = on_notify
	};
	_cleanup_(freep)
	char *conninfo = node_conf_conninfo(&api->conf, "qvd_api");
	struct db_conf conf = { .conninfo = conninfo,
		.program = USER,
		.channels = channels,
		.transactions = TRANSACTIONS };
	struct sigwatch term, interrupt;

	api->loop = loop_new();
	sigwatch_init(&term, api->loop, SIGTERM, on_signal, api);
	sigwatch_init(&interrupt, api->loop, SIGINT, on_signal, api);
	timer_init(&api->stop_timer, api->loop, on_stop_timer, api);
	rollouts_init(api);
	expiry_init(api);
	uploads_init(api);
	api->db = db_new(api->loop, &conf, &cbs, api);
	server_start(api, fd);
	loop_run(api->loop);
	/* The process ends: what is open is closed by that. */
	log_info("stopped");
	return 0;
}

/* Becoming another user makes the kernel forget that we are to end with our
 * parent. */
static int
drop(const struct proc_user *user, struct err *err)
{
	pid_t parent = getppid();
	int signum = 0, r;

	if (prctl(PR_GET_PDEATHSIG, &signum) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "prctl");
	if (geteuid() == 0 && (r = proc_drop_user(user, err)) < 0)
		return r;
	if ((r = proc_harden(signum, err)) < 0)
		return r;
	if (signum != 0 && getppid() != parent)
		return err_set(err, ERR_CANCELLED, "our parent has ended");
	return 0;
}

static int
listen_and_drop(struct api *api, int *ret_fd, struct err *err)
{
	_cleanup_(freep)
	char *path = node_conf_run_path(&api->conf, "api.sock");
	struct group *group = getgrnam(GROUP);
	struct proc_user user;
	int r;

	if ((r = proc_find_user(USER, &user, err)) < 0)
		return r;
	if (group == NULL)
		return err_set(err, ERR_CONFIG,
		    "system group '" GROUP "' does not exist; run "
		    "tools/setup or systemd-sysusers");
	user.gid = group->gr_gid;
	api->uid = user.uid;
	/* Anybody may connect; who may what is said by the credentials. */
	if ((r = listen_unix(path, 0666, user.gid, ret_fd, err)) < 0 ||
	    (r = upload_dir_open(
		 api->conf.data_dir, &user, &api->upload_dir, err)) < 0)
		return r;
	return drop(&user, err);
}

static int
usage(FILE *f, int status)
{
	fprintf(f, "usage: qvd-api [--conf FILE]\n"
		   "The administration API of a QVD node; see qvd-api(8).\n");
	return status;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "conf", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *path = NULL;
	struct api api = { .stopping = false };
	struct err err = { 0 };
	int c, fd = -1;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'c')
			path = optarg;
		else
			return c == 'h' ? usage(stdout, 0) : usage(stderr, 2);
	}
	if (optind < argc)
		return usage(stderr, 2);
	log_init("api");
	signal(SIGPIPE, SIG_IGN);
	if (node_conf_load(path, &api.conf, &err) < 0 ||
	    listen_and_drop(&api, &fd, &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "start");
		return err_exit_code(err.code);
	}
	return run(&api, fd);
}
