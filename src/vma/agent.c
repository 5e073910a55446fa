/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "vma/options.h"
#include "vma/provision.h"

#define POKE_FIRST_MS 10
#define POKE_MAX_MS   500

/* Puts a file of the user's in the session's directory, which only the user
 * and root can enter. Written under another name and renamed, so that
 * nothing that the user may have put there is followed. */
static int
put_file(int dir, const char *name, const void *data, size_t len,
    const struct user_account *user, struct err *err)
{
	_cleanup_(freep)
	char *tmp = xasprintf(".%s.new", name);
	_cleanup_(closep)
	int fd = -1;

	unlinkat(dir, tmp, 0);
	fd = openat(dir, tmp,
	    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, data, len) != (ssize_t)len ||
	    fchown(fd, user->uid, user->gid) < 0 ||
	    renameat(dir, tmp, dir, name) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "write the display agent's file '%s'", name);
	return 0;
}

static int
session_dir(const struct vma *vma, const struct user_account *user, int *ret_fd,
    struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%u", vma->conf.runtime, (unsigned)user->uid);

	*ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*ret_fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open '%s'", path);
	return 0;
}

static int
put_options(struct agent *agent, int dir, const struct request *req,
    const struct user_account *user, struct err *err)
{
	const char *refused;
	struct buf text;
	int r;

	buf_init(&text, OPTIONS_MAX);
	r = options_build(
	    req, agent->socket, agent->vma->conf.display, &text, &refused, err);
	if (r == 0 && refused != NULL) {
		char shown[64];

		log_warn("left out of the client's display options: %s",
		    str_escape(shown, sizeof(shown), refused, strlen(refused)));
	}
	if (r == 0)
		r = put_file(
		    dir, "options", buf_head(&text), buf_len(&text), user, err);
	buf_done(&text);
	return r;
}

static void
poke(void *arg)
{
	struct agent *agent = arg;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_(closep)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/tmp/.X11-unix/X%d",
	    agent->vma->conf.display);
	/* Connecting is all; it wakes the agent's event loop. */
	if (fd >= 0 &&
	    connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		log_debug("poke '%s': %s", addr.sun_path, strerror(errno));
	agent->poke_delay_ms *= 2;
	if (agent->poke_delay_ms > POKE_MAX_MS)
		agent->poke_delay_ms = POKE_MAX_MS;
	timer_start(&agent->poke, agent->poke_delay_ms);
}

void
agent_init(struct agent *agent, struct vma *vma,
    void (*on_line)(enum agent_line line, void *arg),
    void (*on_end)(int status, void *arg), void *arg)
{
	*agent = (struct agent){
		.vma = vma, .on_line = on_line, .on_end = on_end, .arg = arg
	};
	timer_init(&agent->poke, vma->loop, poke, agent);
}

static void
on_line(const char *line, void *arg)
{
	struct task *task = arg;
	struct agent *agent = task->arg;
	enum agent_line kind = agent_line_parse(line);
	char shown[LINES_TEXT];

	log_debug("nxagent: %s",
	    str_escape(shown, sizeof(shown), line, strlen(line)));
	if (agent_line_is_trouble(kind))
		lines_keep(&task->out, line);
	else if (kind != AGENT_LINE_OTHER)
		agent->on_line(kind, agent->arg);
}

static void
on_end(struct task *task, int status, bool timed_out, void *arg)
{
	struct agent *agent = arg;

	timer_stop(&agent->poke);
	agent->on_end(status, agent->arg);
}

int
agent_run_as(struct task *task, struct vma *vma,
    const struct user_account *user, const struct agent *agent, json_t *argv,
    const char *log, lines_cb line, task_cb cb, void *arg, struct err *err)
{
	const char *const role[] = { vma->self, "--role", "run-as", NULL };
	struct task_spec spec = { .path = vma->self,
		.argv = role,
		.input_fd = 3,
		.stderr_too = true,
		.new_session = true,
		.line = line };
	char display[16], runtime[64], nx_root[320];
	json_t *order;
	int r;

	snprintf(display, sizeof(display), ":%d", vma->conf.display);
	snprintf(runtime, sizeof(runtime), "/run/user/%u", (unsigned)user->uid);
	snprintf(nx_root, sizeof(nx_root), "%s/.cache/nx", user->home);
	order = json_pack("{s:o, s:O, s:s, s:{s:s, s:s, s:s, s:s, s:s}}",
	    "account", account_encode(user), "argv", argv, "make_dir", nx_root,
	    "env", "DISPLAY", display, "XAUTHORITY", agent->cookie,
	    "XDG_RUNTIME_DIR", runtime, "NX_ROOT", nx_root, "NX_CLIENT",
	    vma->self);
	if (log != NULL)
		json_object_set_new(order, "log", json_string(log));
	spec.input = order;
	r = task_start(task, vma, &spec, cb, arg, err);
	json_decref(order);
	return r;
}

static json_t *
agent_argv(const struct agent *agent, const char *dir)
{
	_cleanup_(freep)
	char *display = xasprintf(":%d", agent->vma->conf.display);
	_cleanup_(freep)
	char *keys = xasprintf("%s/keystrokes.cfg", dir);
	_cleanup_(freep)
	char *options = xasprintf("nx/nx,options=%s/options%s", dir, display);

	return json_pack("[s, s, s, s, s, s, s, s, s, s, s, s, s]",
	    agent->vma->conf.agent, display, "-auth", agent->cookie, "-name",
	    "QVD", "-nolisten", "tcp", "-noreset", "-keystrokefile", keys,
	    "-display", options);
}

static int
write_files(struct agent *agent, const struct request *req,
    const struct user_account *user, struct err *err)
{
	unsigned char cookie[XAUTHORITY_MAX];
	_cleanup_(closep)
	int dir = -1;
	size_t len;
	int r = session_dir(agent->vma, user, &dir, err);

	if (r < 0)
		return r;
	len = options_xauthority(agent->vma->conf.display, cookie);
	r = put_file(dir, "Xauthority", cookie, len, user, err);
	explicit_bzero(cookie, sizeof(cookie));
	if (r < 0 || (r = put_file(dir, "keystrokes.cfg", options_keystrokes,
			  strlen(options_keystrokes), user, err)) < 0)
		return r;
	unlinkat(dir, "nx.sock", 0);
	return put_options(agent, dir, req, user, err);
}

int
agent_start(struct agent *agent, const struct request *req,
    const struct user_account *user, struct err *err)
{
	_cleanup_(freep)
	char *dir =
	    xasprintf("%s/%u", agent->vma->conf.runtime, (unsigned)user->uid);
	json_t *argv;
	int r;

	if (!str_is_token(dir, 96))
		return err_set(err, ERR_CONFIG,
		    "the path vma.runtime '%s' is too long or has blanks",
		    agent->vma->conf.runtime);
	snprintf(agent->socket, sizeof(agent->socket), "%s/nx.sock", dir);
	snprintf(agent->cookie, sizeof(agent->cookie), "%s/Xauthority", dir);
	agent->uid = user->uid;
	if ((r = write_files(agent, req, user, err)) < 0)
		return r;
	argv = agent_argv(agent, dir);
	r = agent_run_as(&agent->task, agent->vma, user, agent, argv, NULL,
	    on_line, on_end, agent, err);
	json_decref(argv);
	return r;
}

int
agent_resume(struct agent *agent, const struct request *req,
    const struct user_account *user, struct err *err)
{
	_cleanup_(closep)
	int dir = -1;
	int r = session_dir(agent->vma, user, &dir, err);

	if (r < 0 || (r = put_options(agent, dir, req, user, err)) < 0)
		return r;
	unlinkat(dir, "nx.sock", 0);
	agent_signal(agent, SIGHUP);
	/* The agent may sleep through the signal until an X client comes. */
	agent->poke_delay_ms = POKE_FIRST_MS;
	timer_start(&agent->poke, agent->poke_delay_ms);
	return 0;
}

void
agent_poke_stop(struct agent *agent)
{
	timer_stop(&agent->poke);
}

void
agent_signal(struct agent *agent, int signum)
{
	if (task_running(&agent->task))
		kill(task_pid(&agent->task), signum);
}

/* The user owns the directory and could have put anything under the name:
 * only a socket of the user's on which the user listens will do. */
int
agent_connect(struct agent *agent, int *ret_fd, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_(closep)
	int file = open(agent->socket, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(closep)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);
	struct stat st;

	if (file < 0 || fd < 0 || fstat(file, &st) < 0)
		return err_errno(err, ERR_SESSION, errno,
		    "the display agent does not listen");
	if (!S_ISSOCK(st.st_mode) || st.st_uid != agent->uid)
		return err_set(err, ERR_SESSION,
		    "the display agent's socket was replaced");
	snprintf(
	    addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d", file);
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_errno(
		    err, ERR_SESSION, errno, "connect to the display agent");
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	    peer.uid != agent->uid)
		return err_set(err, ERR_SESSION,
		    "the display agent's socket is somebody else's");
	*ret_fd = take_fd(&fd);
	return 0;
}
