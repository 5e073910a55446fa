/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/options.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"
#include "base/str.h"

/* nx/nx options that change how the link is used and nothing else: no paths,
 * ports, programs or channels. */
static const char *const harmless[] = { "autodpi", "cache", "copysize", "data",
	"defer", "delta", "fullscreen", "images", "keyconv", "kbtype", "limit",
	"magicpixel", "pack", "resize", "shpix", "stream", "streaming", "tile",
	"xinerama" };

const char options_keystrokes[] =
    "<!DOCTYPE NXKeystroke>\n"
    "<keystrokes>\n"
    "<keystroke action=\"fullscreen\" Control=\"1\" Shift=\"1\" "
    "AltMeta=\"1\" key=\"f\" />\n"
    "<keystroke action=\"minimize\" Control=\"1\" Shift=\"1\" "
    "AltMeta=\"1\" key=\"m\" />\n"
    "</keystrokes>\n";

static bool
is_harmless(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(harmless); i++) {
		if (strlen(harmless[i]) == len &&
		    strncmp(harmless[i], name, len) == 0)
			return true;
	}
	return false;
}

static bool
add_extra(const struct request *req, struct buf *out, const char **ret_refused)
{
	static const char value_ok[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				       "abcdefghijklmnopqrstuvwxyz"
				       "0123456789_/+.-";
	const char *p = request_param(req, "qvd.client.nxagent.extra_args");
	bool ok = true;

	while (p != NULL && *p != '\0') {
		size_t len = strcspn(p, ","), name = strcspn(p, "=,");

		if (name + 1 < len && is_harmless(p, name) &&
		    strspn(p + name + 1, value_ok) >= len - name - 1)
			ok = buf_printf(out, ",%.*s", (int)len, p) && ok;
		else if (len > 0 && *ret_refused == NULL)
			*ret_refused = arena_strndup(req->arena, p, name);
		p += len + (p[len] == ',');
	}
	return ok;
}

int
options_build(const struct request *req, const char *socket_path, int display,
    struct buf *out, const char **ret_refused, struct err *err)
{
	const struct request_display *d = &req->display;
	const struct {
		const char *name, *value;
	} v[] = { { "client", d->client }, { "keyboard", d->keyboard },
		{ "link", d->link }, { "geometry", d->geometry } };
	bool ok = buf_printf(out, "nx/nx");
	size_t i;

	*ret_refused = NULL;
	for (i = 0; i < ARRAY_SIZE(v); i++) {
		if (v[i].value != NULL && v[i].value[0] != '\0')
			ok = buf_printf(out, ",%s=%s", v[i].name, v[i].value) &&
			     ok;
	}
	/* sleep=0: the agent stays awake when suspended. Not cleanup=0, with
	 * which it would wait for ever before it says good-bye to the client,
	 * who would take the end of the session for a lost link. xinerama=0:
	 * nxagent 3.5.99.26 asks the client's screen for its monitors when it
	 * resumes, and one time in a hundred it dies of that (a list of
	 * displays in libXext that has one which is gone), and the desktop
	 * with it. Who has several monitors asks for it. */
	ok = buf_printf(out,
		 ",fullscreen=%d,resize=1,clipboard=both,sleep=0,"
		 "tolerancechecks=risky,xinerama=0",
		 d->fullscreen) &&
	     ok;
	ok = add_extra(req, out, ret_refused) && ok;
	ok =
	    buf_printf(out, ",listen=unix:%s:%d\n", socket_path, display) && ok;
	if (!ok)
		return err_set(err, ERR_TOO_LARGE,
		    "the display options are longer than %d bytes",
		    OPTIONS_MAX);
	return 0;
}

static unsigned char *
put_counted(unsigned char *p, const void *data, size_t n)
{
	*p++ = (unsigned char)(n >> 8);
	*p++ = (unsigned char)n;
	memcpy(p, data, n);
	return p + n;
}

size_t
options_xauthority(int display, unsigned char *ret)
{
	static const char method[] = "MIT-MAGIC-COOKIE-1";
	unsigned char cookie[16], *p = ret;
	char number[16];

	while (getrandom(cookie, sizeof(cookie), 0) != sizeof(cookie))
		;
	snprintf(number, sizeof(number), "%d", display);
	*p++ = 0xff; /* FamilyWild */
	*p++ = 0xff;
	p = put_counted(p, "", 0);
	p = put_counted(p, number, strlen(number));
	p = put_counted(p, method, strlen(method));
	p = put_counted(p, cookie, sizeof(cookie));
	explicit_bzero(cookie, sizeof(cookie));
	return (size_t)(p - ret);
}
