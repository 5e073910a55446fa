/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * QEMU's machine protocol (QMP). Two layers: a parser that turns the bytes of
 * the monitor, in whatever pieces they come, into messages; and a client that
 * sends a command and finds its answer among the events that come between.
 * QEMU runs what a hostile guest may have taken over: its bytes are judged
 * like those of any peer, each has a limit, and none is ever an assert. The
 * client blocks, with a deadline on every step; it lives in an operation
 * process.
 */
#ifndef HYPERVISOR_QMP_H
#define HYPERVISOR_QMP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define QMP_MESSAGE_MAX (1024 * 1024) /* bytes of one message */
#define QMP_EVENTS_MAX  1024          /* kept while an answer is awaited */
#define QMP_NAME_MAX    64

enum qmp_kind { QMP_GREETING, QMP_RETURN, QMP_ERROR, QMP_EVENT };

struct qmp_message {
	enum qmp_kind kind;
	int64_t id;              /* of the command; -1: none */
	char name[QMP_NAME_MAX]; /* of an event; class of an error */
	char text[256];          /* of an error: printable, maybe cut */
	json_t *data; /* the answer, or the event's data; never NULL */
};
void qmp_message_done(struct qmp_message *msg);

struct qmp_parser {
	struct buf in;
	size_t looked; /* bytes of `in` that hold no end of line */
	bool broken;
};

void qmp_parser_init(struct qmp_parser *p);
void qmp_parser_done(struct qmp_parser *p);
/* Takes n bytes. ERR_TOO_LARGE if the message that they belong to is. */
int qmp_parser_feed(
    struct qmp_parser *p, const void *data, size_t n, struct err *err);
/* 1: the next message, the caller's; 0: none is whole yet; ERR_PROTOCOL: this
 * is not QMP, and stays so. */
int qmp_parser_next(
    struct qmp_parser *p, struct qmp_message *ret, struct err *err);

struct qmp {
	int fd;
	struct qmp_parser in;
	int64_t last_id;
	struct qmp_message *events; /* not looked at yet */
	size_t n_events;
};

/* Takes the connected socket, also on failure; hears the greeting, leaves
 * negotiation. */
int qmp_init(struct qmp *q, int fd, int timeout_ms, struct err *err);
/* Connects to the socket at path first. */
int qmp_open(struct qmp *q, const char *path, int timeout_ms, struct err *err);
void qmp_done(struct qmp *q);

/* One command and its answer (*ret is the caller's; NULL: not wanted). args
 * is taken, NULL: none. fd (-1: none) goes beside it and stays the caller's.
 * An error of QEMU's is ERR_VM_LOST with QEMU's own sentence. */
int qmp_run(struct qmp *q, const char *command, json_t *args, int fd,
    int timeout_ms, json_t **ret, struct err *err);
/* The first event of that name since the last look; those before it are
 * dropped. *ret (the caller's) is its data. ERR_TIMEOUT, or ERR_VM_LOST when
 * QEMU is gone. */
int qmp_wait(struct qmp *q, const char *event, int timeout_ms, json_t **ret,
    struct err *err);

/*
 * One question to a monitor without waiting for it, so that many can be asked
 * at once (qmp_ask.c): when fd is readable, qmp_ask_read(). _done also after
 * a failure of any; it sets fd to -1.
 */
struct qmp_ask {
	int fd;
	struct qmp_parser in;
	int64_t id; /* of the last command */
};

int qmp_ask_init(
    struct qmp_ask *a, const char *path, const char *command, struct err *err);
/* A further command, after the answer to the one before. */
int qmp_ask_next(struct qmp_ask *a, const char *command, struct err *err);
/* 1: the answer to the last command, *ret is the caller's; 0: it isn't whole
 * yet. Reads once, whatever more there is. */
int qmp_ask_read(struct qmp_ask *a, json_t **ret, struct err *err);
void qmp_ask_done(struct qmp_ask *a);

#endif
