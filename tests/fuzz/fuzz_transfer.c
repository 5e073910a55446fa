/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The stream of an image between two nodes: each input is what one end says
 * to the other, once to the end that serves and once to the one that pulls.
 * What is in the store stays whole, and no object comes into it that isn't
 * what its checksum says.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "fuzz_store.h"
#include "image/pull.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* So that whatever is answered fits into the socket's buffer: nobody reads. */
#define INPUT_MAX ((size_t)32 * 1024)
#define IMAGE_ID  1

static struct image_imported image;

static void
put(const char *dir, const char *name, const char *text)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	size_t n = strlen(text);

	if (fd < 0 || write(fd, text, n) != (ssize_t)n || close(fd) < 0)
		abort();
}

/* The image that is served. Its two files are the same objects on every
 * machine, and inputs name them; its commit is not, for its date. */
static void
make_image(void)
{
	_cleanup_(freep)
	char *src = xasprintf("%s/src", fuzz_store_dir);
	struct image_import import = { .data_dir = fuzz_store_dir,
		.image_id = IMAGE_ID,
		.source = src,
		.author = "",
		.message = "",
		.version = "",
		.parent = "",
		.login = "" };
	struct err err;

	if (mkdir(src, 0755) < 0)
		abort();
	put(src, "one", "one\n");
	put(src, "two", "two\n");
	if (image_import(&import, &image, &err) < 0)
		abort();
}

static int
said(const uint8_t *data, size_t size, int *ret_peer)
{
	int s[2], room = 1024 * 1024;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
		abort();
	setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	setsockopt(s[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (send(s[1], data, size, MSG_NOSIGNAL) != (ssize_t)size ||
	    shutdown(s[1], SHUT_WR) < 0)
		abort();
	*ret_peer = s[1];
	return s[0];
}

static void
serve(const uint8_t *data, size_t size)
{
	int peer, fd = said(data, size, &peer);
	struct err err = { 0 };

	if (image_serve(fuzz_store_dir, image.checksum, fd, &err) < 0 &&
	    err.msg[0] == '\0')
		abort();
	close(fd);
	close(peer);
}

static void
pull(const uint8_t *data, size_t size)
{
	static const char nowhere[] = "0123456789abcdef0123456789abcdef"
				      "0123456789abcdef0123456789abcdef";
	int peer, fd = said(data, size, &peer);
	const struct image_pull args = { .data_dir = fuzz_store_dir,
		.image_id = IMAGE_ID + 1,
		.checksum = nowhere,
		.base = "",
		.fd = fd };
	struct image_pulled done;
	struct err err = { 0 };

	/* Nobody knows bytes with that checksum. */
	if (image_pull(&args, &done, &err) == 0 || err.msg[0] == '\0')
		abort();
	close(fd);
	close(peer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err;

	if (size > INPUT_MAX)
		return 0;
	if (image.checksum[0] == '\0') {
		fuzz_store_repo();
		make_image();
	}
	serve(data, size);
	pull(data, size);
	if (image_verify(fuzz_store_dir, image.checksum, &err) < 0)
		abort();
	return 0;
}
