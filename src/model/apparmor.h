/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whether AppArmor holds a node's containers: where the kernel has it and our
 * profile (dist/apparmor) is loaded. Root reads the kernel's files
 * (hypervisor/hv.h); the judgement and the words are here. Pure.
 */
#ifndef MODEL_APPARMOR_H
#define MODEL_APPARMOR_H

#include "base/enum.h"

#define APPARMOR_PROFILE "qvd-desktop"

#define APPARMOR_TABLE(X)           \
	X(OFF, "off")               \
	X(NOT_LOADED, "not-loaded") \
	X(ON, "on")

#define X(name, word) APPARMOR_##name,
enum apparmor { APPARMOR_TABLE(X) };
#undef X
ENUM_FUNCTIONS(apparmor);

/* By what /sys/module/apparmor/parameters/enabled and
 * /sys/kernel/security/apparmor/profiles hold; NULL: there is none. */
enum apparmor apparmor_judge(const char *enabled, const char *profiles);
/* To go on a sentence with; "" where there is nothing to say. */
const char *apparmor_says(enum apparmor apparmor);

#endif
