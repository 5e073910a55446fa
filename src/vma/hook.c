/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/hook.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "vma/request.h"
#include "vma/task.h"

#define ARGS_MAX (2 * REQUEST_PARAMS_MAX + 32)

struct hook {
	struct list link; /* on vma->hooks, the first one runs */
	struct vma *vma;
	struct task task;
	char name[64]; /* "action/connect" */
	json_t *info;
	hook_cb cb;
	void *arg;
	struct err start_error;
};

static void start_next(struct vma *vma);

static char *
hook_path(const struct vma *vma, const char *kind, const char *name)
{
	return xasprintf("%s/%s/%s", vma->conf.hooks, kind, name);
}

bool
hook_exists(const struct vma *vma, const char *kind, const char *name)
{
	_cleanup_(freep)
	char *path = hook_path(vma, kind, name);

	return access(path, X_OK) == 0;
}

static void
hook_line(const char *line, void *arg)
{
	struct task *t = arg;
	struct hook *hook = t->arg;
	char shown[LINES_TEXT];

	lines_keep(&t->out, line);
	log_info("hook %s: %s", hook->name,
	    str_escape(shown, sizeof(shown), line, strlen(line)));
}

static void
hook_free(struct hook *hook)
{
	list_del(&hook->link);
	json_decref(hook->info);
	free(hook);
}

static void
hook_finish(struct hook *hook, const struct err *err)
{
	struct vma *vma = hook->vma;
	hook_cb cb = hook->cb;
	void *arg = hook->arg;

	if (err != NULL)
		log_err(LOG_LEVEL_WARN, err, "hook %s", hook->name);
	hook_free(hook);
	start_next(vma);
	if (cb != NULL)
		cb(err, arg);
}

static void
on_end(struct task *task, int status, bool timed_out, void *arg)
{
	struct hook *hook = arg;
	struct err err = { 0 };
	char last[LINES_TEXT], name[96];

	snprintf(name, sizeof(name), "the image's hook '%s'", hook->name);
	if (child_status_err(name, status, timed_out, &err) == 0) {
		hook_finish(hook, NULL);
		return;
	}
	if (lines_newest(&task->out, last)[0] != '\0') {
		size_t len = strlen(err.msg);

		snprintf(err.msg + len, sizeof(err.msg) - len, ": %s", last);
	}
	err.code = ERR_SESSION;
	hook_finish(hook, &err);
}

static void
start_failed(void *arg)
{
	struct hook *hook = arg;

	hook_finish(hook, &hook->start_error);
}

static int
add_args(const char **argv, int n, const json_t *params)
{
	json_t *object = (json_t *)(uintptr_t)params; /* only read */
	const char *key;
	json_t *v;

	json_object_foreach (object, key, v) {
		if (request_param_is_secret(key) || n + 2 > ARGS_MAX - 8)
			continue;
		argv[n++] = key;
		argv[n++] = json_string_value(v);
	}
	return n;
}

static void
hook_start(struct hook *hook)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", hook->vma->conf.hooks, hook->name);
	const char *slash = strchr(hook->name, '/');
	char on_kind[48];
	const char *argv[ARGS_MAX];
	struct task_spec spec = { .path = path,
		.argv = argv,
		.input = hook->info,
		.stderr_too = true,
		.deadline_ms = hook->vma->conf.hook_timeout_ms,
		.line = hook_line };
	int n = 0;

	snprintf(on_kind, sizeof(on_kind), "qvd.hook.on_%.*s",
	    (int)(slash - hook->name), hook->name);
	argv[n++] = path;
	n = add_args(argv, n, json_object_get(hook->info, "params"));
	argv[n++] = "qvd.vm.session.state";
	argv[n++] = json_string_value(json_object_get(hook->info, "session"));
	argv[n++] = on_kind;
	argv[n++] = slash + 1;
	argv[n] = NULL;
	if (task_start(&hook->task, hook->vma, &spec, on_end, hook,
		&hook->start_error) < 0)
		loop_defer(hook->vma->loop, start_failed, hook);
}

static void
start_next(struct vma *vma)
{
	if (!list_empty(&vma->hooks))
		hook_start(list_first(&vma->hooks, struct hook, link));
}

struct hook *
hook_run(struct vma *vma, const char *kind, const char *name,
    const json_t *info, hook_cb cb, void *arg)
{
	bool first = list_empty(&vma->hooks);
	struct hook *hook;

	if (!hook_exists(vma, kind, name))
		return NULL;
	hook = new0(struct hook);
	snprintf(hook->name, sizeof(hook->name), "%s/%s", kind, name);
	hook->vma = vma;
	hook->info = json_incref((json_t *)(uintptr_t)info);
	hook->cb = cb;
	hook->arg = arg;
	list_init(&hook->link);
	list_add(&vma->hooks, &hook->link);
	if (first)
		hook_start(hook);
	return hook;
}

void
hook_cancel(struct hook *hook)
{
	if (hook == NULL)
		return;
	hook->cb = NULL;
	if (list_first(&hook->vma->hooks, struct hook, link) == hook)
		task_kill(&hook->task, SIGKILL);
	else
		hook_free(hook);
}
