/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The node's devices that a desktop may be given. A row names them by these
 * words ("kvm render"); which files they are, and with which numbers, is said
 * here and nowhere else. What needs to mount something (fuse) is no use in a
 * desktop, where mounting is closed. Pure; API, HKD and its root helper.
 */
#ifndef MODEL_DEVICE_H
#define MODEL_DEVICE_H

#include "base/enum.h"
#include "base/err.h"

#define DEVICE_TEXT_MAX 200

/* name, word, path below /dev, major, first minor, how many; a path of several
 * gets the minor's number. */
#define DEVICE_TABLE(X)                      \
	X(KVM, "kvm", "kvm", 10, 232, 1)     \
	X(TUN, "tun", "net/tun", 10, 200, 1) \
	X(RENDER, "render", "dri/renderD", 226, 128, 16)

#define X(name, word, path, major, minor, count) DEVICE_##name,
enum device { DEVICE_TABLE(X) DEVICE_COUNT_ };
#undef X
ENUM_FUNCTIONS(device);

struct device_kind {
	const char *path;
	unsigned major, minor, count;
};
extern const struct device_kind device_kinds[DEVICE_COUNT_];

/* Words apart by spaces or commas; *ret has a bit for each. ERR_PARAMETER names
 * the one that there is not. */
int device_parse(const char *text, unsigned *ret, struct err *err);
/* For field tables: empty (none), or right. */
int device_check(const char *text, struct err *err);

#endif
