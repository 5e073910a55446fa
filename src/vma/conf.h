/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * /etc/qvd/vma.conf of the image: all optional, the defaults serve a
 * container. Loaded once. VMA.
 */
#ifndef VMA_CONF_H
#define VMA_CONF_H

#include <stdint.h>

#include "base/conf.h"

struct vma_conf {
	char *socket;
	char *secret;
	char *hooks;
	char *runtime;
	int64_t hook_timeout_ms;
	char *session;
	int display;
	int64_t logout_timeout_ms;
	char *agent;
	int64_t agent_timeout_ms;
	char *home;
	char *home_device;
	char *home_fs;
	int64_t provision_timeout_ms;
};
extern const struct conf_key vma_conf_keys[];

/* A missing file is no error. */
int vma_conf_load(struct vma_conf *conf, const char *path, struct err *err);
void vma_conf_done(struct vma_conf *conf);

#endif
