/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The user's home: a block device (KVM) formatted if blank and mounted, and
 * the directory itself made from the skeleton. Every step goes by
 * descriptors and follows no symbolic link. A home appears under its name
 * only when it is complete; one that exists is left as it is. Blocking; runs
 * in the provisioner. VMA.
 */
#ifndef VMA_HOME_H
#define VMA_HOME_H

#include <sys/types.h>

#include "base/err.h"
#include "vma/user.h"

/* Mounts device on path unless something is mounted there already. Formats
 * it only if it has no byte but zero at its start and at its end. */
int home_mount(
    const char *device, const char *fs, const char *path, struct err *err);

/* 1: made; 0: was there. skel: "/etc/skel", may be missing. */
int home_make(
    const struct user_account *user, const char *skel, struct err *err);

#endif
