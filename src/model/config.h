/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The farm's configuration keys (rows of `configs`): one table gives each
 * its type, default, limits and a sentence for the manual and `qvd config`.
 * A key that is not here is refused. Pure; every process.
 */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum config_type {
	CONFIG_STR,        /* text */
	CONFIG_INT,        /* number within [min, max] */
	CONFIG_BOOL,       /* yes/no */
	CONFIG_DURATION,   /* "30s", "5m"; within [min, max] milliseconds */
	CONFIG_NET,        /* "10.88.0.1/16" */
	CONFIG_ADDRESS,    /* "10.88.0.2", or "" */
	CONFIG_RESOLVERS,  /* model/resolvers.h */
	CONFIG_NET6,       /* "fd00:88::1/64", or "" */
	CONFIG_EGRESS,     /* model/egress.h */
	CONFIG_HOME_STORE, /* words of model/states.h */
	CONFIG_ROOT_STORE,
	CONFIG_VM_ACCEL,
	CONFIG_VM_MACHINE,
};

/* Who may have its own value, which wins over the farm's. */
enum config_scope { CONFIG_FARM, CONFIG_PER_TENANT, CONFIG_PER_HOST };

struct config_key {
	const char *key; /* NULL ends the table */
	enum config_type type;
	const char *def;
	int64_t min, max;
	enum config_scope scope;
	const char *doc;
};
extern const struct config_key config_keys[];

/* NULL if there is no such key. */
const struct config_key *config_find(const char *key);
/* Whether value is right for the key; a sentence that says what is. */
int config_check(
    const struct config_key *key, const char *value, struct err *err);
/* A value read back; the key's default when value is NULL or wrong. */
const char *config_text(const struct config_key *key, const char *value);
/* Also of a word: its value in the enum. */
int64_t config_i64(const struct config_key *key, const char *value);
bool config_bool(const struct config_key *key, const char *value);

#endif
