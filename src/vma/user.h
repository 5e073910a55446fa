/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The session's user in the image: looked up in and added to passwd, group
 * and shadow by own code, because an image needs no useradd. Blocking; runs
 * in the provisioner, a short-lived process of its own. etc: normally
 * "/etc"; each file is replaced by rename, under libc's password lock when
 * it is the system's own. VMA.
 */
#ifndef VMA_USER_H
#define VMA_USER_H

#include <stdbool.h>
#include <sys/types.h>

#include "vma/request.h"

#define USER_GROUPS_MAX (REQUEST_GROUPS_MAX + 8)

struct user_account {
	char name[64];
	uid_t uid;
	gid_t gid;
	char home[272];
	char shell[272];
	gid_t groups[USER_GROUPS_MAX];
	int n_groups;
};

/* The account, if the image has it with this uid: 1; no such user: 0. A name
 * or uid that belongs to somebody else is ERR_CONFLICT. */
int user_find(const char *etc, const struct request_user *want,
    struct user_account *ret, struct err *err);
/* Adds the user (and the group, if needed). home_base: "/home". */
int user_add(const char *etc, const struct request_user *want,
    const char *home_base, struct err *err);
/* Puts the user into the groups wanted; *ret_missing (heap, NULL: none)
 * lists those that the image doesn't have. */
int user_join(const char *etc, const struct request_user *want,
    char **ret_missing, struct err *err);

#endif
