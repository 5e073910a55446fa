/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The viewer: a process of qvd-client-nx, which runs libXcomp between one
 * end of a socket pair and the X server. One process a connection, because
 * libXcomp keeps global state, and a process of its own, because it reads
 * bytes from the desktop: it has no secret, and its crash is only a message.
 * Its files are in a private directory that goes with it. In the user's
 * client.
 */
#ifndef CLIENT_VIEWER_H
#define CLIENT_VIEWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define VIEWER_PROGRAM "qvd-client-nx"
/* Its descriptors, and the words on the control socket. */
#define VIEWER_NX_FD  3
#define VIEWER_CTL_FD 4
#define VIEWER_READY  'R' /* the X server can be reached */
#define VIEWER_GO     'G' /* start the NX protocol */
/* Its exit codes. */
#define VIEWER_EXIT_ENDED   0
#define VIEWER_EXIT_USAGE   2
#define VIEWER_EXIT_DISPLAY 3 /* no X server (any more); line says which */
#define VIEWER_EXIT_NX      4 /* libXcomp refused to start */

struct viewer {
	pid_t pid;  /* -1: none */
	int pidfd;  /* readable when it has ended */
	int nx_fd;  /* our end of the socket pair, non-blocking */
	int ctl_fd; /* our end of the control socket */
	int log_fd; /* its output, non-blocking; -1 after its end */
	char dir[128];
	char line[1024]; /* of its output, so far */
	size_t line_len;
	char last[256]; /* its last line of error, or "" */
	bool started;   /* said that the session draws */
	bool link_lost; /* said that the peer went without a word */
	bool refused;   /* said that the X server did not want it */
	char display[64];
	void (*on_line)(const char *line, void *arg); /* may be NULL */
	void *arg;
};

void viewer_init(struct viewer *v);
/* Kills what runs, removes its directory. */
void viewer_done(struct viewer *v);

/* Starts it; display NULL: $DISPLAY. */
int viewer_start(struct viewer *v, const char *program_dir, const char *display,
    struct err *err);
/* Waits until it has reached the X server, or says why it can't. */
int viewer_wait_ready(
    struct viewer *v, int cancel_fd, int64_t deadline_ms, struct err *err);
/* Starts the NX protocol; the first bytes on nx_fd will be the viewer's. */
int viewer_go(struct viewer *v, struct err *err);
/* Reads what it has printed. */
void viewer_read_log(struct viewer *v);
/* After pidfd became readable: 0 for an end in order, else why not. */
int viewer_reap(struct viewer *v, struct err *err);

#endif
