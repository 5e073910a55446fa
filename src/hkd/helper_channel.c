/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vm.channel: a stream to the agent of a VM. The directory belongs to the
 * guest, who may put anything there: names are resolved beneath it without
 * following links, what isn't a socket is refused, connecting never blocks,
 * and the guest can make us look again only a few hundred times a second
 * and only until the deadline.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/openat2.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hkd/helper_priv.h"
#include "json/json.h"

#define WAIT_MAX_MS    180000
#define CHANNELS_MAX   4096 /* waits at once */
#define RETRY_FIRST_MS 2
#define RETRY_LAST_MS  50

struct channel {
	struct list link; /* helper->channels */
	struct helper *helper;
	struct rpc_call *call;
	struct watch watch; /* the inotify descriptor */
	struct timer timer;
	int64_t vm_id;
	int64_t until_ms;
	int64_t retry_ms;
	int dir;
	int inotify;
	bool over;
};

static void
channel_destroy(void *arg)
{
	struct channel *ch = arg;

	if (ch->inotify >= 0)
		watch_done(&ch->watch);
	timer_done(&ch->timer);
	closep(&ch->dir);
	closep(&ch->inotify);
	free(ch);
}

static void
channel_end(struct channel *ch)
{
	ch->over = true;
	if (ch->inotify >= 0)
		watch_set(&ch->watch, 0);
	timer_stop(&ch->timer);
	list_del(&ch->link);
	loop_defer(ch->helper->loop, channel_destroy, ch);
}

static void
channel_fail(struct channel *ch, const struct err *err)
{
	rpc_fail(ch->call, err);
	channel_end(ch);
}

static const char *
kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "a file";
	case S_IFDIR:
		return "a directory";
	case S_IFLNK:
		return "a symbolic link";
	case S_IFIFO:
		return "a pipe";
	default:
		return "a device";
	}
}

static int
not_a_socket(const struct channel *ch, const char *what, struct err *err)
{
	return err_set(err, ERR_VM_LOST,
	    "the channel of VM %lld is %s, not a socket: its agent has been "
	    "tampered with; stop the desktop and start it again",
	    (long long)ch->vm_id, what);
}

/* The socket's own inode, beneath the directory. 0: not there yet. */
static int
open_socket(const struct channel *ch, int *ret_fd, struct err *err)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve =
		    RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	struct stat st;
	int fd =
	    (int)syscall(SYS_openat2, ch->dir, "vma.sock", &how, sizeof(how));

	if (fd < 0 && (errno == ENOENT || errno == EAGAIN))
		return 0;
	if (fd < 0)
		return err_errno(err, ERR_VM_LOST, errno,
		    "open the channel of VM %lld", (long long)ch->vm_id);
	if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode)) {
		close(fd);
		return not_a_socket(ch, kind_of(st.st_mode), err);
	}
	*ret_fd = fd;
	return 1;
}

/* 1: connected; 0: nobody listens (yet). */
static int
try_connect(const struct channel *ch, int *ret_fd, struct err *err)
{
	_cleanup_(closep)
	int node = -1;
	_cleanup_(closep)
	int sock = -1;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int r;

	if ((r = open_socket(ch, &node, err)) <= 0)
		return r;
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return err_errno(err, ERR_SYSTEM, errno, "socket");
	snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d", node);
	if (connect(sock, (struct sockaddr *)&sun, sizeof(sun)) == 0) {
		*ret_fd = take_fd(&sock);
		return 1;
	}
	switch (errno) {
	case ECONNREFUSED: /* bound, and not listening yet or any more */
	case EAGAIN:       /* its queue is full */
	case ENOENT:
		return 0;
	case EPROTOTYPE:
		return not_a_socket(ch, "a socket of another kind", err);
	default:
		return err_errno(err, ERR_VM_LOST, errno,
		    "connect to the agent of VM %lld", (long long)ch->vm_id);
	}
}

static void
look(struct channel *ch)
{
	struct err err = { 0 };
	int64_t left;
	int fd = -1, r;

	r = try_connect(ch, &fd, &err);
	if (r < 0) {
		channel_fail(ch, &err);
		return;
	}
	if (r > 0) {
		rpc_reply(ch->call, NULL, fd);
		channel_end(ch);
		return;
	}
	left = ch->until_ms - time_now_ms();
	if (left <= 0) {
		err_set(&err, ERR_TIMEOUT,
		    "the agent of VM %lld doesn't answer; see its console "
		    "log, or stop the desktop and start it again",
		    (long long)ch->vm_id);
		channel_fail(ch, &err);
		return;
	}
	/* The directory tells when a name appears, nothing tells when a
	 * socket starts to listen: look again, ever less often. */
	timer_start(&ch->timer, ch->retry_ms < left ? ch->retry_ms : left);
	if ((ch->retry_ms *= 2) > RETRY_LAST_MS)
		ch->retry_ms = RETRY_LAST_MS;
}

static void
on_timer(void *arg)
{
	struct channel *ch = arg;

	if (ch->over)
		return;
	if (ch->inotify >= 0)
		watch_set(&ch->watch, WATCH_READ);
	look(ch);
}

/* A name appeared. The next look comes soon, and until then nothing that
 * the guest does there wakes us. */
static void
on_inotify(int events, void *arg)
{
	struct channel *ch = arg;
	char buf[4096];

	if (ch->over)
		return;
	while (read(ch->inotify, buf, sizeof(buf)) > 0)
		;
	watch_set(&ch->watch, 0);
	ch->retry_ms = RETRY_FIRST_MS;
	timer_start(&ch->timer, 1);
}

static void
on_cancel(void *arg)
{
	struct channel *ch = arg;
	struct err err = { 0 };

	if (ch->over)
		return;
	err_set(&err, ERR_CANCELLED, "cancelled");
	channel_fail(ch, &err);
}

/*
 * What desktops watch counts against root's number of instances, too (the
 * owner of their namespaces), so one desktop can use all of them up. It must
 * not keep the others from being reached: without a watch time alone makes us
 * look again.
 */
static int
watch_directory(struct channel *ch, struct err *err)
{
	char path[48];

	ch->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ch->dir);
	if (ch->inotify < 0 && errno == EMFILE)
		return 0;
	if (ch->inotify < 0 || inotify_add_watch(ch->inotify, path,
				   IN_CREATE | IN_MOVED_TO | IN_ATTRIB) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "watch the channel of VM %lld", (long long)ch->vm_id);
	watch_init(&ch->watch, ch->helper->loop, ch->inotify, on_inotify, ch);
	watch_set(&ch->watch, WATCH_READ);
	return 0;
}

void
channels_end(struct helper *h)
{
	struct channel *ch;
	struct err err = { 0 };

	err_set(&err, ERR_CANCELLED, "the node's helper is ending");
	LIST_EACH (&h->channels, ch, struct channel, link)
		channel_fail(ch, &err);
}

struct channel_args {
	int64_t vm_id;
	int64_t wait_ms;
};

static const struct field channel_fields[] = {
	FIELD(struct channel_args, vm_id, I64, .flags = FIELD_REQUIRED,
	    .min = 1, .max = HV_VM_ID_MAX),
	FIELD(struct channel_args, wait_ms, I64, .min = 0, .max = WAIT_MAX_MS),
	FIELD_END
};

static int
channel_start(struct helper *h, struct rpc_call *call,
    const struct channel_args *a, struct err *err)
{
	const struct hv_node node = { .run_dir = h->conf->run_dir };
	_cleanup_(json_decrefp)
	json_t *record = hv_record_json(&node, a->vm_id);
	struct channel *ch;
	int dir = -1, r;

	if (str_eq(json_get_str(record, "hypervisor", ""), "kvm"))
		return dial_start(h, call, a->vm_id, a->wait_ms, record, err);
	if ((r = hv_lxc_open_channel(
		 &h->cgroup, h->conf->run_dir, a->vm_id, &dir, err)) < 0)
		return r;
	ch = new0(struct channel);
	ch->helper = h;
	ch->call = call;
	ch->vm_id = a->vm_id;
	ch->until_ms = time_now_ms() + a->wait_ms;
	ch->retry_ms = RETRY_FIRST_MS;
	ch->dir = dir;
	ch->inotify = -1;
	list_init(&ch->link);
	list_add(&h->channels, &ch->link);
	timer_init(&ch->timer, h->loop, on_timer, ch);
	rpc_call_on_cancel(call, on_cancel, ch);
	/* Watching before looking: nothing that appears between is missed. */
	if (watch_directory(ch, err) < 0)
		channel_fail(ch, err);
	else
		look(ch);
	return 0;
}

void
handle_vm_channel(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct helper *h = arg;
	struct channel_args a = { 0 };
	struct err err = { 0 };
	struct list *l;
	int waits = 0;

	closep(&fd);
	for (l = h->channels.next; l != &h->channels; l = l->next)
		waits++;
	for (l = h->dials.next; l != &h->dials; l = l->next)
		waits++;
	if (json_decode(args, channel_fields, &a, NULL, NULL, &err) < 0 ||
	    (waits >= CHANNELS_MAX &&
		err_set(&err, ERR_UNAVAILABLE,
		    "%d requests wait for agents already", waits) < 0) ||
	    channel_start(h, call, &a, &err) < 0)
		rpc_fail(call, &err);
}
