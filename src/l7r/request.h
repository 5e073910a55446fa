/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a client's request says, and whether it may: credentials, extra
 * authentication headers, parameters of connect_to_vm. Pure parsing of
 * hostile bytes into the request's arena; used by the worker only.
 */
#ifndef L7R_REQUEST_H
#define L7R_REQUEST_H

#include <jansson.h>

#include "base/arena.h"
#include "base/err.h"
#include "net/http.h"

enum cred_kind { CRED_BASIC, CRED_BEARER };

struct cred {
	enum cred_kind kind;
	const char *login;    /* CRED_BASIC: not empty, UTF-8 text */
	const char *password; /* may be empty */
	const char *token;    /* CRED_BEARER: decoded, printable */
};

/* Reads the header Authorization. ERR_AUTH: missing or malformed. */
int cred_parse(const struct http_params *headers, struct arena *arena,
    struct cred *ret, struct err *err);

/* The headers Auth-<hex(name)>: base64(value) as an object of texts, for
 * authenticators; malformed ones are left out. A new reference. */
json_t *auth_headers(const struct http_params *headers);

/* The parameter id. ERR_PARAMETER: missing or no number. */
int vm_id_parse(
    const struct http_params *query, int *ret_vm_id, struct err *err);

/* ERR_FORBIDDEN "Invalid parameters ..." if there is any but id and those
 * that start with qvd.client. or custom. */
int params_check(const struct http_params *query, struct err *err);

/*
 * All parameters but id as an object of texts, and from such an object (when
 * the properties of the VM have been merged into it) what the display is to
 * be: two members of the VMA's POST /session (docs/internals.md).
 * ERR_PARAMETER names a value that is not text, or that has characters which
 * the agent's options can't hold. New references.
 */
int params_to_json(
    const struct http_params *query, json_t **ret_params, struct err *err);
int params_to_display(
    const json_t *params, json_t **ret_display, struct err *err);

/* Text of a VM or a client as one line of printable ASCII for a header or a
 * sentence; what isn't becomes '?'. Returns dst. */
char *line_of(char *dst, size_t size, const char *text);

#endif
