/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The stream between pull.c and serve.c, "qvd-image/1". Blocking, with a
 * deadline that progress moves. Numbers are little-endian.
 *
 * The serving end begins: u8 0, or u8 1 and a text (u16 length) why not.
 * Then the pulling end asks: u8 what, u32 how many, so many entries; and is
 * answered for each entry:
 *
 * WIRE_SIZES  entry: u8 type, checksum (32 bytes).
 *             answer: u64 size, WIRE_NONE if it has no such object.
 * WIRE_GET    entry: u8 type, checksum, checksum of a dictionary (zeros: none).
 *             answer: u8 enum wire_kind, u64 size, a zstd frame. An object's
 *             bytes are libostree's content stream or its serialised variant,
 *             so that their SHA-256 is its checksum.
 * WIRE_SIGNATURE  no entries. answer: u32 length (0: none), bytes.
 */
#ifndef IMAGE_WIRE_H
#define IMAGE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum wire_what { WIRE_SIZES = 'S', WIRE_GET = 'G', WIRE_SIGNATURE = 'N' };
enum wire_kind { WIRE_PLAIN, WIRE_BASED, WIRE_MISSING };

#define WIRE_SUM       32
#define WIRE_NONE      UINT64_MAX
#define WIRE_ASKED_MAX 4096 /* entries of one question */
#define WIRE_TEXT_MAX  500
#define WIRE_BUFFER    (64 * 1024)
/* Objects that may be, or have, a dictionary; what zstd needs for it is some
 * times as large. */
#define WIRE_BASE_MAX   (UINT64_C(32) << 20)
#define WIRE_WINDOW_LOG 27

struct wire {
	int fd;
	int idle_ms;
	int64_t rate; /* bytes a second in; 0: no limit */
	int64_t since_ms;
	uint64_t in, out; /* bytes so far */
	size_t start, len, queued;
	unsigned char input[WIRE_BUFFER];
	unsigned char output[WIRE_BUFFER];
};

void wire_init(struct wire *w, int fd, int idle_ms, int64_t rate);
/* What is there, at least one byte; consume what was used. */
int wire_peek(
    struct wire *w, const unsigned char **ret, size_t *ret_n, struct err *err);
void wire_consume(struct wire *w, size_t n);
int wire_read(struct wire *w, void *buf, size_t n, struct err *err);
int wire_read_number(
    struct wire *w, size_t bytes, uint64_t *ret, struct err *err);
/* 1: the other end has closed it, 0: there is more. */
int wire_at_end(struct wire *w, struct err *err);

int wire_write(struct wire *w, const void *buf, size_t n, struct err *err);
int wire_write_number(
    struct wire *w, uint64_t v, size_t bytes, struct err *err);
int wire_flush(struct wire *w, struct err *err);

#endif
