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
	struct task task;
	char name[64]; /* "action/connect" */
	hook_cb cb;
	void *arg;
	struct err start_error;
};

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
hook_finish(struct hook *hook, const struct err *err)
{
	if (err != NULL)
		log_err(LOG_LEVEL_WARN, err, "hook %s", hook->name);
	if (hook->cb != NULL)
		hook->cb(err, hook->arg);
	free(hook);
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

struct hook *
hook_run(struct vma *vma, const char *kind, const char *name,
    const json_t *info, hook_cb cb, void *arg)
{
	_cleanup_(freep)
	char *path = hook_path(vma, kind, name);
	char on_kind[48];
	const char *argv[ARGS_MAX];
	json_t *input = (json_t *)(uintptr_t)info; /* only read */
	struct task_spec spec = { .path = path,
		.argv = argv,
		.input = input,
		.stderr_too = true,
		.deadline_ms = vma->conf.hook_timeout_ms,
		.line = hook_line };
	struct hook *hook;
	int n = 0;

	if (access(path, X_OK) != 0)
		return NULL;
	hook = new0(struct hook);
	snprintf(hook->name, sizeof(hook->name), "%s/%s", kind, name);
	hook->cb = cb;
	hook->arg = arg;
	snprintf(on_kind, sizeof(on_kind), "qvd.hook.on_%s", kind);
	argv[n++] = path;
	n = add_args(argv, n, json_object_get(info, "params"));
	argv[n++] = "qvd.vm.session.state";
	argv[n++] = json_string_value(json_object_get(info, "session"));
	argv[n++] = on_kind;
	argv[n++] = name;
	argv[n] = NULL;
	if (task_start(
		&hook->task, vma, &spec, on_end, hook, &hook->start_error) < 0)
		loop_defer(vma->loop, start_failed, hook);
	return hook;
}

void
hook_cancel(struct hook *hook)
{
	if (hook == NULL)
		return;
	hook->cb = NULL;
	task_kill(&hook->task, SIGKILL);
}
