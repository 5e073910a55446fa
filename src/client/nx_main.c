/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qvd-client-nx: the NX protocol between descriptor 3 and the X server of
 * $DISPLAY, by libXcomp. Started by libqvdclient (viewer.c), which relays
 * descriptor 3 to the farm; not for people. It holds no secret.
 */
#include <errno.h>
#include <nx/NX.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <xcb/xcb.h>

#include "client/viewer.h"

#define LOOP_SECONDS 10 /* libXcomp shortens it to what it needs */
/* For the agent at the other end to have opened its X connection. */
#define GRANT_SECONDS 30

/* With the authority file, as libXcomp will do it. */
static bool
display_answers(void)
{
	xcb_connection_t *x = xcb_connect(NULL, NULL);
	bool ok = xcb_connection_has_error(x) == 0;

	xcb_disconnect(x);
	return ok;
}

/*
 * The agent's X connection comes without the user's cookie, and libXcomp
 * doesn't add it. Where the X server insists on one (many let the user's own
 * processes in without, by "localuser"), it is told to let them in until the
 * agent has come: who runs as the user could have read the cookie.
 */
static bool
needs_grant(void)
{
	static char none[1];
	xcb_auth_info_t auth = { .name = none, .data = none };
	xcb_connection_t *x =
	    xcb_connect_to_display_with_auth_info(NULL, &auth, NULL);
	bool refused = xcb_connection_has_error(x) != 0;

	xcb_disconnect(x);
	return refused;
}

static void
grant(uint8_t mode)
{
	static const char kind[] = "localuser"; /* its NUL is the separator */
	const struct passwd *pw = getpwuid(geteuid());
	uint8_t address[sizeof(kind) + 64];
	xcb_connection_t *x;
	size_t n;

	if (pw == NULL || (n = strlen(pw->pw_name)) > 64)
		return;
	memcpy(address, kind, sizeof(kind));
	memcpy(address + sizeof(kind), pw->pw_name, n);
	x = xcb_connect(NULL, NULL);
	if (xcb_connection_has_error(x) == 0)
		free(xcb_request_check(
		    x, xcb_change_hosts_checked(x, mode,
			   XCB_FAMILY_SERVER_INTERPRETED,
			   (uint16_t)(sizeof(kind) + n), address)));
	xcb_disconnect(x);
}

static int
no_display(const char *what)
{
	fprintf(stderr,
	    "Error: the X server '%s' %s; check DISPLAY and XAUTHORITY\n",
	    getenv("DISPLAY") != NULL ? getenv("DISPLAY") : "", what);
	return VIEWER_EXIT_DISPLAY;
}

/* Until libXcomp says that its work is over. */
static void
run(bool granted)
{
	time_t until = time(NULL) + GRANT_SECONDS;

	while (NXTransRunning(NX_FD_ANY)) {
		struct timeval timeout = { .tv_sec = LOOP_SECONDS };
		fd_set readable, writable;
		int max = 0, result = 0, error = 0;

		FD_ZERO(&readable);
		FD_ZERO(&writable);
		if (NXTransPrepare(&max, &readable, &writable, &timeout) == 0 ||
		    NXTransSelect(&result, &error, &max, &readable, &writable,
			&timeout) == 0 ||
		    NXTransExecute(&result, &error, &max, &readable, &writable,
			&timeout) == 0)
			break;
		if (granted && time(NULL) >= until) {
			granted = false;
			grant(XCB_HOST_MODE_DELETE);
		}
	}
	if (granted)
		grant(XCB_HOST_MODE_DELETE);
}

/*
 * libXcomp would ask the user something: nobody does. It must not end before
 * the one that asks, who might trip over its SIGCHLD. Who asks may have been
 * killed before this process could wish to end with it: then the client, which
 * reads what we print, has gone too.
 */
static int
dialog(void)
{
	struct pollfd client = { .fd = STDOUT_FILENO };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (poll(&client, 1, -1) < 0 && errno == EINTR)
		;
	return VIEWER_EXIT_ENDED;
}

int
main(int argc, char **argv)
{
	const char ready = VIEWER_READY;
	bool granted;
	char word = 0;

	if (argc > 2)
		return dialog();
	if (argc != 2) {
		fputs("Error: this program is started by qvd-client\n", stderr);
		return VIEWER_EXIT_USAGE;
	}
	/* The client gone, nobody needs us; and nobody may look into us. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	if (!display_answers())
		return no_display("can't be reached");
	if (send(VIEWER_CTL_FD, &ready, 1, MSG_NOSIGNAL) != 1 ||
	    read(VIEWER_CTL_FD, &word, 1) != 1 || word != VIEWER_GO)
		return VIEWER_EXIT_ENDED; /* not needed after all */
	if ((granted = needs_grant()))
		grant(XCB_HOST_MODE_INSERT);
	if (NXTransCreate(VIEWER_NX_FD, NX_MODE_SERVER, argv[1]) != 1) {
		fputs("Error: libXcomp refused to start\n", stderr);
		return VIEWER_EXIT_NX;
	}
	run(granted);
	if (!display_answers())
		return no_display("has gone");
	return VIEWER_EXIT_ENDED;
}
