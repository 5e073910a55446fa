/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/door.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/channel.h"
#include "net/listen.h"

#define CALLERS_MAX 64
#define KNOCK_MS    5000 /* to say the secret */

struct door {
	struct loop *loop;
	struct listener *listener;
	char secret[VM_SECRET_LEN + 1];
	void (*enter)(int fd, void *arg);
	void *arg;
};

/* One who has not said the secret yet. */
struct knock {
	struct door *door;
	struct watch watch;
	struct timer timer;
	int fd;
	size_t len;
	char said[VM_SECRET_LEN + 2];
};

static void
knock_free(void *arg)
{
	struct knock *k = arg;

	watch_done(&k->watch);
	timer_done(&k->timer);
	explicit_bzero(k, sizeof(*k));
	free(k);
}

static void
knock_end(struct knock *k, bool known)
{
	int fd = take_fd(&k->fd);

	watch_set(&k->watch, 0);
	timer_stop(&k->timer);
	loop_defer(k->door->loop, knock_free, k);
	if (known) {
		k->door->enter(fd, k->door->arg);
		return;
	}
	close(fd);
	door_left(k->door);
}

static void
on_readable(int events, void *arg)
{
	struct knock *k = arg;
	size_t want = VM_SECRET_LEN + 1 - k->len;
	ssize_t n;

	if (k->fd < 0)
		return;
	/* Not one byte of the request that follows. */
	n = recv(k->fd, k->said + k->len, want, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		knock_end(k, false);
		return;
	}
	k->len += (size_t)n;
	if (k->len < VM_SECRET_LEN + 1)
		return;
	if (k->said[VM_SECRET_LEN] == '\n')
		k->said[VM_SECRET_LEN] = '\0';
	knock_end(k, str_eq_secret(k->said, k->door->secret));
}

static void
on_late(void *arg)
{
	struct knock *k = arg;

	if (k->fd >= 0)
		knock_end(k, false);
}

static void
on_accept(int fd, void *arg)
{
	struct door *door = arg;
	struct knock *k = new0(struct knock);

	k->door = door;
	k->fd = fd;
	timer_init(&k->timer, door->loop, on_late, k);
	timer_start(&k->timer, KNOCK_MS);
	watch_init(&k->watch, door->loop, fd, on_readable, k);
	watch_set(&k->watch, WATCH_READ);
}

void
door_left(struct door *door)
{
	listener_closed_one(door->listener);
}

int
door_open(struct loop *loop, const char *secret_path,
    void (*enter)(int fd, void *arg), void *arg, struct door **ret,
    struct err *err)
{
	_cleanup_(wipe_strp)
	char *secret = NULL;
	char address[24];
	struct door *door;
	int fd, r;

	*ret = NULL;
	if (!fs_exists(secret_path)) {
		log_info("no '%s': no entrance by TCP", secret_path);
		return 0;
	}
	if ((r = fs_read_file(secret_path, 256, &secret, NULL, err)) < 0)
		return r;
	if (strlen(secret) != VM_SECRET_LEN)
		return err_set(err, ERR_CONFIG,
		    "'%s' holds no secret of %d characters", secret_path,
		    VM_SECRET_LEN);
	snprintf(address, sizeof(address), "*:%d", VM_CHANNEL_PORT);
	if ((r = listen_tcp(address, false, &fd, err)) < 0)
		return r;
	door = new0(struct door);
	door->loop = loop;
	door->enter = enter;
	door->arg = arg;
	str_copy(door->secret, sizeof(door->secret), secret);
	door->listener = listener_new(loop, fd, CALLERS_MAX, on_accept, door);
	*ret = door;
	log_info("entrance by TCP port %d", VM_CHANNEL_PORT);
	return 0;
}
