/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What happens between a client's wish and the start (or the resume) of the
 * agent, step by step: each step ends at once or waits for a hook or the
 * provisioner. A newer client that comes meanwhile makes it begin anew with
 * that client's parameters; every step may be done twice.
 */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "vma/provision.h"
#include "vma/session.h"

/* 0: done, next; 1: waiting; negative: failed. */
typedef int (*step_fn)(struct session *s, struct err *err);

struct step {
	const char *name; /* of the phase */
	step_fn fn;
	bool on_resume; /* also before a resume */
};

static void next(struct session *s);

void
prepare_phase(struct prepare *p, const char *name, int64_t now_ms)
{
	if (p->phases != NULL && now_ms > p->step_began_ms)
		json_object_set_new(
		    p->phases, name, json_integer(now_ms - p->step_began_ms));
	p->step_began_ms = now_ms;
}

/* The step that was waited for has ended. */
static void
proceed(struct session *s, const struct err *err)
{
	struct prepare *p = &s->prepare;

	if (p->again) {
		p->again = false;
		p->step = 0;
		next(s);
		return;
	}
	if (err != NULL) {
		p->running = false;
		session_prepare_failed(s, err);
		return;
	}
	p->step++;
	next(s);
}

static void
on_hook(const struct err *err, void *arg)
{
	struct session *s = arg;

	s->prepare.hook = NULL;
	proceed(s, err);
}

static int
run_hook(struct session *s, const char *kind, const char *name)
{
	json_t *info = session_info(s, name);

	s->prepare.hook = hook_run(s->vma, kind, name, info, on_hook, s);
	json_decref(info);
	return s->prepare.hook != NULL;
}

static int
step_pre_connect(struct session *s, struct err *err)
{
	return run_hook(s, "action", "pre-connect");
}

static int
step_connect(struct session *s, struct err *err)
{
	return run_hook(s, "action", "connect");
}

/* What is missing in the image can be said before anything is done. */
static int
step_check(struct session *s, struct err *err)
{
	static const char *const programs[] = { "/etc/qvd/session",
		"/etc/X11/Xsession" };
	const struct vma_conf *conf = &s->vma->conf;
	size_t i;

	s->program[0] = '\0';
	if (conf->session[0] != '\0' && access(conf->session, X_OK) == 0)
		str_copy(s->program, sizeof(s->program), conf->session);
	for (i = 0; i < ARRAY_SIZE(programs) && conf->session[0] == '\0' &&
		    s->program[0] == '\0';
	     i++) {
		if (access(programs[i], X_OK) == 0)
			str_copy(s->program, sizeof(s->program), programs[i]);
	}
	if (s->program[0] == '\0')
		return err_set(err, ERR_SESSION,
		    "the image has no X session: put an executable at %s "
		    "into it",
		    conf->session[0] != '\0'
			? conf->session
			: "/etc/qvd/session or /etc/X11/Xsession");
	if (access(conf->agent, X_OK) != 0)
		return err_set(err, ERR_SESSION,
		    "the image has no X session: '%s' is missing; install "
		    "the package nxagent in it",
		    conf->agent);
	return 0;
}

static void
on_provision_line(const char *line, void *arg)
{
	struct task *task = arg;
	struct session *s = task->arg;
	struct prepare *p = &s->prepare;
	const char *info;
	json_t *obj, *account;

	if (json_parse(line, strlen(line), &obj, NULL) < 0)
		return;
	info = json_get_str(obj, "info", NULL);
	account = json_object_get(obj, "account");
	if (info != NULL)
		session_tell(s, info);
	else if (json_get_bool(obj, "unknown", false))
		p->user_unknown = true;
	else if (json_object_get(obj, "error") != NULL)
		json_to_err(obj, &p->task_error);
	else if (account != NULL &&
		 account_decode(account, &s->account, &p->task_error) == 0)
		p->user_added |= json_get_bool(obj, "created", false);
	json_decref(obj);
}

static void
on_provision_end(struct task *task, int status, bool timed_out, void *arg)
{
	struct session *s = arg;
	struct prepare *p = &s->prepare;
	struct err err = p->task_error;

	if (!p->running)
		return; /* cancelled */
	if (!err_is_set(&err))
		child_status_err("the provisioner of the user's account",
		    status, timed_out, &err);
	proceed(s, err_is_set(&err) ? &err : NULL);
}

static int
provision(struct session *s, int steps, struct err *err)
{
	const struct vma_conf *conf = &s->vma->conf;
	const struct request_user *u = &s->req->user;
	const char *const argv[] = { s->vma->self, "--role", "provision",
		NULL };
	json_t *order = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:i, s:i,"
				  " s:s*, s:s*, s:s*, s:s*}",
	    "steps", steps, "home", conf->home, "device", conf->home_device,
	    "fs", conf->home_fs, "runtime", conf->runtime, "name", u->name,
	    "uid", (int)u->uid, "gid", (int)u->gid, "group", u->group,
	    "full_name", u->full_name, "user_home", u->home, "shell", u->shell);
	const struct task_spec spec = { .path = s->vma->self,
		.argv = argv,
		.input = order,
		.deadline_ms = conf->provision_timeout_ms,
		.line = on_provision_line };
	int r;

	if (u->groups != NULL)
		json_object_set_new(
		    order, "groups", json_loads(u->groups, 0, NULL));
	s->prepare.task_error = (struct err){ 0 };
	s->prepare.user_unknown = false;
	/* A cancelled one may still be about to end. */
	r = task_running(&s->prepare.task)
		? err_set(err, ERR_UNAVAILABLE,
		      "the end of the last try is awaited; try again")
		: task_start(&s->prepare.task, s->vma, &spec, on_provision_end,
		      s, err);
	json_decref(order);
	return r < 0 ? r : 1;
}

static int
step_mount(struct session *s, struct err *err)
{
	if (hook_exists(s->vma, "provisioning", "mount_home"))
		return run_hook(s, "provisioning", "mount_home");
	if (s->vma->conf.home_device[0] == '\0')
		return 0;
	session_tell(s, "Mounting the home");
	return provision(s, PROVISION_MOUNT, err);
}

static int
step_find(struct session *s, struct err *err)
{
	if (!hook_exists(s->vma, "provisioning", "add_user"))
		return 0;
	return provision(s, PROVISION_FIND, err);
}

static int
step_add(struct session *s, struct err *err)
{
	if (!s->prepare.user_unknown)
		return 0;
	s->prepare.user_added = true;
	return run_hook(s, "provisioning", "add_user");
}

static int
step_make(struct session *s, struct err *err)
{
	session_tell(s, "Preparing the account");
	return provision(s, PROVISION_MAKE, err);
}

static int
step_after_add(struct session *s, struct err *err)
{
	if (!s->prepare.user_added)
		return 0;
	return run_hook(s, "provisioning", "after_add_user");
}

static const struct step steps[] = {
	{ "pre-connect", step_pre_connect, true },
	{ "check", step_check, false },
	{ "mount", step_mount, false },
	{ "find-user", step_find, false },
	{ "add-user", step_add, false },
	{ "account", step_make, false },
	{ "after-add-user", step_after_add, false },
	{ "connect", step_connect, true },
};

static void
next(struct session *s)
{
	struct prepare *p = &s->prepare;
	struct err err = { 0 };
	int r = 0;

	for (; p->step < (int)ARRAY_SIZE(steps); p->step++) {
		const struct step *step = &steps[p->step];

		if (p->step > 0)
			prepare_phase(p, steps[p->step - 1].name,
			    loop_now_ms(s->vma->loop));
		if (p->resume && !step->on_resume)
			continue;
		r = step->fn(s, &err);
		if (r != 0)
			break;
	}
	if (r > 0)
		return;
	p->running = false;
	if (r < 0)
		session_prepare_failed(s, &err);
	else
		session_prepared(s);
}

void
prepare_begin(struct session *s, bool resume)
{
	struct prepare *p = &s->prepare;

	json_decref(p->phases);
	p->phases = json_object();
	p->running = true;
	p->again = false;
	p->resume = resume;
	p->step = 0;
	p->user_added = false;
	p->user_unknown = false;
	p->began_ms = p->step_began_ms = loop_now_ms(s->vma->loop);
	next(s);
}

void
prepare_cancel(struct session *s)
{
	struct prepare *p = &s->prepare;

	if (!p->running)
		return;
	p->running = false;
	hook_cancel(p->hook);
	p->hook = NULL;
	task_kill(&p->task, SIGKILL);
}
