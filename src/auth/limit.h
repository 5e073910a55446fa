/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Slows down who guesses passwords: after a few failures of one login from
 * one address, each further attempt of that pair waits, longer each time. A
 * table of fixed size, so that guessing many logins costs us no memory; when
 * a corner of it is full the oldest failure there is forgotten. Nobody else
 * waits: not the same login from another address, nor another login from the
 * same one. Pure: time is an argument. Owned by the L7R's broker.
 */
#ifndef AUTH_LIMIT_H
#define AUTH_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#define AUTH_LIMIT_FREE       2    /* failures that cost nothing */
#define AUTH_LIMIT_FIRST_MS   1000 /* the first wait; doubles */
#define AUTH_LIMIT_LONGEST_MS 30000
#define AUTH_LIMIT_FORGET_MS  (15 * 60 * 1000)
#define AUTH_LIMIT_PENDING    8 /* attempts of one pair at once */
#define AUTH_LIMIT_BUSY       (-1)

struct auth_limit;

struct auth_limit *auth_limit_new(void);
void auth_limit_free(struct auth_limit *limit);

/* An attempt begins. Returns how many ms it must wait before the password is
 * looked at; or AUTH_LIMIT_BUSY: enough of this pair are under way (one, when
 * some have failed), ask again when one of them has ended. Then it has not
 * begun, and there is no end to report. */
int64_t auth_limit_begin(struct auth_limit *limit, const char *login,
    const char *address, int64_t now_ms);
/* It ended; `cancelled` ones count neither way. */
enum auth_limit_end { AUTH_LIMIT_OK, AUTH_LIMIT_FAILED, AUTH_LIMIT_CANCELLED };
void auth_limit_end(struct auth_limit *limit, const char *login,
    const char *address, enum auth_limit_end how, int64_t now_ms);

#endif
