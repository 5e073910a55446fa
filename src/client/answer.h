/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The parser of the server's answers (llhttp): interim answers one by one,
 * then a final answer with its body, or the 101 after which not one byte is
 * HTTP's. It says exactly how many bytes it has used, so that what follows a
 * 101 in the same read is handed on untouched. No descriptor here; every
 * byte is hostile. In the user's client.
 */
#ifndef CLIENT_ANSWER_H
#define CLIENT_ANSWER_H

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define ANSWER_HEAD_MAX    (64 * 1024)   /* of one answer */
#define ANSWER_BODY_MAX    (1024 * 1024) /* a list of thousands of desktops */
#define ANSWER_INTERIM_MAX 100000        /* ten minutes of busy progress */
#define ANSWER_TEXT_MAX    512           /* of a header that we read */

/* The headers that a client wants; "" if absent. Escaped for a terminal. */
struct answer_headers {
	char info[ANSWER_TEXT_MAX];  /* X-QVD-VM-Info */
	char error[ANSWER_TEXT_MAX]; /* X-QVD-Error */
	char ref[ANSWER_TEXT_MAX];   /* X-QVD-Ref */
	char key[ANSWER_TEXT_MAX];   /* X-QVD-Slave-Key: a secret */
	char type[ANSWER_TEXT_MAX];  /* Content-Type */
};

enum answer_event {
	ANSWER_MORE,     /* needs further bytes */
	ANSWER_INTERIM,  /* a 1xx other than 101 is complete */
	ANSWER_UPGRADED, /* a 101 is complete: the rest isn't HTTP */
	ANSWER_FINAL,    /* status, headers and body are complete */
};

struct answer {
	llhttp_t parser;
	llhttp_settings_t settings;
	int status;
	struct answer_headers headers;
	struct buf body;
	bool keep_alive; /* another request may use the connection */
	/* parsing */
	char name[64]; /* of the current header, lower case */
	size_t name_len;
	char *slot; /* where the current header's value goes, or NULL */
	size_t slot_len;
	size_t bytes;
	int interims;
	bool head_done;
	bool in_value;
	bool complete;
	struct err *err; /* of the running answer_feed() */
};

/* A new answer, for a new request. */
void answer_init(struct answer *answer);
/* Wipes what it held. */
void answer_done(struct answer *answer);

/* Parses up to the end of one answer. *ret_used <= len bytes were used; with
 * ANSWER_INTERIM call again for the rest. Negative: not HTTP, or too big. */
int answer_feed(struct answer *answer, const char *data, size_t len,
    size_t *ret_used, struct err *err);
/* The peer has closed: ANSWER_FINAL if that completes the answer. */
int answer_eof(struct answer *answer, struct err *err);

#endif
