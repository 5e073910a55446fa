/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The body of POST /session: who, on what display, with which parameters.
 * Everything in it is checked here once; later code may use the values in
 * option files, environments and paths. Owns its arena and JSON. VMA.
 */
#ifndef VMA_REQUEST_H
#define VMA_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

#define REQUEST_BODY_MAX   (128 * 1024)
#define REQUEST_GROUPS_MAX 64
#define REQUEST_PARAMS_MAX 400

struct request_user {
	const char *name;
	int32_t uid;
	int32_t gid;        /* 0: as the group named, else the uid */
	const char *group;  /* NULL: as the name */
	const char *groups; /* JSON list of names, NULL */
	const char *full_name;
	const char *home; /* NULL: <conf.home>/<name> */
	const char *shell;
};

struct request_display {
	const char *kind;
	const char *link;
	const char *keyboard;
	const char *geometry;
	const char *client;
	bool fullscreen;
};

struct request {
	struct arena *arena;
	int64_t generation;
	bool resume; /* from a client that lost its link */
	struct request_user user;
	struct request_display display;
	json_t *params; /* object of strings */
};

int request_parse(
    const char *text, size_t len, struct request **ret, struct err *err);
void request_free(struct request *req);
void request_freep(struct request **req);

/* A parameter, or NULL. */
const char *request_param(const struct request *req, const char *name);
/* Must not be seen by other processes (slave key, token, password). */
bool request_param_is_secret(const char *name);

/* Fit for a line of /etc/passwd and a directory's name. */
bool request_user_name_ok(const char *name);

#endif
