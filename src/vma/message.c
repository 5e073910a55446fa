/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The role "message": a plain window with a few lines of text, by the core X
 * protocol (X Window System Protocol, version 11, release 6.8, appendix B)
 * in the byte order of this machine. Runs as the session's user.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "vma/notify.h"

#define LINE_WIDTH  64
#define LINES_COUNT 8
#define CHAR_PX     6 /* of the font "fixed" */
#define LINE_PX     18
#define MARGIN_PX   20
#define TITLE       "Message from the administrator"
#define HINT        "(A click closes this message.)"

enum {
	X_CREATE_WINDOW = 1,
	X_MAP_WINDOW = 8,
	X_CHANGE_PROPERTY = 18,
	X_OPEN_FONT = 45,
	X_CREATE_GC = 55,
	X_IMAGE_TEXT = 76
};
enum { X_ERROR = 0, X_REPLY = 1, X_BUTTON_PRESS = 4, X_EXPOSE = 12 };
enum { X_ATOM_STRING = 31, X_ATOM_WM_NAME = 39 };

struct x {
	int fd;
	uint32_t base, root, white, black;
	uint16_t width, height;
};

int
message_wrap(char *text, int width, char **lines, int n_max)
{
	int n = 0;
	char *end;

	while (*text != '\0' && n < n_max) {
		while (*text == ' ')
			text++;
		lines[n++] = text;
		if ((int)strlen(text) <= width)
			break;
		for (end = text + width; end > text && *end != ' '; end--)
			;
		/* A word longer than a line loses a byte at the break. */
		if (end == text)
			end = text + width;
		*end = '\0';
		text = end + 1;
	}
	return n;
}

static bool
put(struct x *x, const void *data, size_t len)
{
	const char *p = data;
	ssize_t n;

	while (len > 0) {
		n = send(x->fd, p, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static bool
get(struct x *x, void *data, size_t len)
{
	char *p = data;
	ssize_t n;

	while (len > 0) {
		n = read(x->fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

/* A request: words after its head, then bytes padded to four. */
static bool
ask(struct x *x, uint8_t opcode, uint8_t detail, const uint32_t *words,
    size_t n_words, const char *bytes, size_t len)
{
	static const char zeros[4];
	size_t pad = (4 - len % 4) % 4;
	uint16_t units = (uint16_t)(1 + n_words + (len + pad) / 4);
	unsigned char head[4] = { opcode, detail };

	memcpy(head + 2, &units, sizeof(units));
	return put(x, head, 4) && put(x, words, n_words * 4) &&
	       put(x, bytes, len) && put(x, zeros, pad);
}

/* A field of an Xauthority file: length in network order, bytes. */
static const unsigned char *
auth_field(const unsigned char **p, const unsigned char *end, size_t *ret_len)
{
	const unsigned char *data;
	size_t len;

	if (end - *p < 2)
		return NULL;
	len = (size_t)((*p)[0] << 8 | (*p)[1]);
	data = *p + 2;
	if ((size_t)(end - data) < len)
		return NULL;
	*p = data + len;
	*ret_len = len;
	return data;
}

/* The first cookie of the file; the session has one. */
static size_t
find_cookie(unsigned char ret[static 16])
{
	static const char name[] = "MIT-MAGIC-COOKIE-1";
	const char *path = getenv("XAUTHORITY");
	_cleanup_(freep)
	char *text = NULL;
	const unsigned char *p, *end, *f = NULL;
	size_t len, n;
	bool is_cookie;
	int i;

	if (path == NULL || fs_read_file(path, 65536, &text, &len, NULL) < 0)
		return 0;
	p = (const unsigned char *)text;
	end = p + len;
	while (end - p > 2) {
		p += 2; /* family */
		is_cookie = false;
		for (i = 0; i < 4; i++) { /* address, number, name, data */
			if ((f = auth_field(&p, end, &n)) == NULL)
				return 0;
			if (i == 2)
				is_cookie = n == sizeof(name) - 1 &&
					    memcmp(f, name, n) == 0;
		}
		if (is_cookie && n == 16) {
			memcpy(ret, f, 16);
			return 16;
		}
	}
	return 0;
}

static int
open_display(struct x *x, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *display = getenv("DISPLAY");
	int number;

	if (display == NULL || display[0] != ':' ||
	    !str_to_int(display + 1, 0, 65535, &number))
		return err_set(err, ERR_SESSION, "DISPLAY is not like ':1'");
	snprintf(
	    addr.sun_path, sizeof(addr.sun_path), "/tmp/.X11-unix/X%d", number);
	x->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (x->fd < 0 ||
	    connect(x->fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_errno(
		    err, ERR_SESSION, errno, "connect to '%s'", addr.sun_path);
	return 0;
}

static uint32_t
u32_at(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint16_t
u16_at(const unsigned char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* The server's first screen out of its greeting. */
static int
take_setup(struct x *x, const unsigned char *s, size_t len, struct err *err)
{
	size_t vendor, screen;

	if (len < 32)
		return err_set(err, ERR_PROTOCOL, "the greeting is too short");
	vendor = ((size_t)u16_at(s + 16) + 3) / 4 * 4;
	screen = 32 + vendor + (size_t)s[21] * 8;
	if (s[20] == 0 || screen + 40 > len)
		return err_set(err, ERR_PROTOCOL, "the X server has no screen");
	x->base = u32_at(s + 4);
	x->root = u32_at(s + screen);
	x->white = u32_at(s + screen + 8);
	x->black = u32_at(s + screen + 12);
	x->width = u16_at(s + screen + 20);
	x->height = u16_at(s + screen + 22);
	return 0;
}

static int
greet(struct x *x, struct err *err)
{
	static const char name[] = "MIT-MAGIC-COOKIE-1\0"; /* padded */
	const uint16_t one = 1;
	unsigned char hello[12] = { 0 }, cookie[16], head[8];
	_cleanup_(freep)
	unsigned char *setup = NULL;
	uint16_t major = 11, name_len = 18, data_len;
	size_t len;

	hello[0] = *(const unsigned char *)&one == 1 ? 'l' : 'B';
	data_len = (uint16_t)find_cookie(cookie);
	if (data_len == 0)
		name_len = 0;
	memcpy(hello + 2, &major, 2);
	memcpy(hello + 6, &name_len, 2);
	memcpy(hello + 8, &data_len, 2);
	if (!put(x, hello, sizeof(hello)) ||
	    (name_len > 0 && (!put(x, name, 20) || !put(x, cookie, 16))) ||
	    !get(x, head, sizeof(head)))
		return err_set(err, ERR_SESSION, "the X server went away");
	if (head[0] != 1)
		return err_set(
		    err, ERR_SESSION, "the X server does not let us in");
	len = (size_t)u16_at(head + 6) * 4;
	setup = xcalloc(len + 1, 1);
	if (!get(x, setup, len))
		return err_set(err, ERR_SESSION, "the X server went away");
	return take_setup(x, setup, len, err);
}

static uint32_t
pair(int low, int high)
{
	return (uint32_t)(uint16_t)low | (uint32_t)(uint16_t)high << 16;
}

static bool
open_window(struct x *x, int columns, int n_lines)
{
	int width = columns * CHAR_PX + 2 * MARGIN_PX;
	int height = n_lines * LINE_PX + 2 * MARGIN_PX;
	uint32_t window = x->base, font = x->base + 1, gc = x->base + 2;
	/* back and border pixel; events: buttons, exposures */
	const uint32_t create[] = { window, x->root,
		pair((x->width - width) / 2, (x->height - height) / 3),
		pair(width, height), pair(1, 1), 0, 0x80a, x->white, x->black,
		0x8004 };
	const uint32_t title[] = { window, X_ATOM_WM_NAME, X_ATOM_STRING, 8,
		sizeof(TITLE) - 1 };
	const uint32_t open_font[] = { font, 5 };
	/* foreground, background, font */
	const uint32_t create_gc[] = { gc, window, 0x400c, x->black, x->white,
		font };

	return ask(x, X_CREATE_WINDOW, 0, create, ARRAY_SIZE(create), "", 0) &&
	       ask(x, X_CHANGE_PROPERTY, 0, title, ARRAY_SIZE(title), TITLE,
		   sizeof(TITLE) - 1) &&
	       ask(x, X_OPEN_FONT, 0, open_font, ARRAY_SIZE(open_font), "fixed",
		   5) &&
	       ask(x, X_CREATE_GC, 0, create_gc, ARRAY_SIZE(create_gc), "",
		   0) &&
	       ask(x, X_MAP_WINDOW, 0, &window, 1, "", 0);
}

static bool
draw(struct x *x, char *const *lines, int n)
{
	int i;

	for (i = 0; i < n; i++) {
		const uint32_t words[] = { x->base, x->base + 2,
			pair(MARGIN_PX, MARGIN_PX + (i + 1) * LINE_PX - 5) };
		size_t len = strlen(lines[i]);

		if (!ask(x, X_IMAGE_TEXT, (uint8_t)len, words,
			ARRAY_SIZE(words), lines[i], len))
			return false;
	}
	return true;
}

/* Until it is clicked on, or the session ends. */
static int
stay(struct x *x, char *const *lines, int n, struct err *err)
{
	unsigned char event[32];

	while (get(x, event, sizeof(event))) {
		switch (event[0] & 0x7f) {
		case X_ERROR:
			return err_set(err, ERR_SESSION,
			    "the X server refused request %u (error %u)",
			    event[10], event[1]);
		case X_BUTTON_PRESS:
			return 0;
		case X_EXPOSE:
			if (!draw(x, lines, n))
				return 0;
			break;
		default:
			break;
		}
	}
	return 0;
}

int
message_main(const char *text)
{
	_cleanup_(freep)
	char *copy = xstrdup(text);
	char hint[] = HINT, *lines[LINES_COUNT];
	struct x x = { .fd = -1 };
	struct err err = { 0 };
	int n, r;

	n = message_wrap(copy, LINE_WIDTH, lines, LINES_COUNT - 1);
	lines[n++] = hint;
	if ((r = open_display(&x, &err)) == 0 && (r = greet(&x, &err)) == 0)
		r = open_window(&x, LINE_WIDTH, n)
			? stay(&x, lines, n, &err)
			: err_set(&err, ERR_SESSION, "the X server went away");
	closep(&x.fd);
	if (r < 0)
		dprintf(STDERR_FILENO, "Error: %s\n", err.msg);
	return r < 0;
}
