/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The whole agent, one per VM and process: what its parts share. Made by
 * main(), never freed before the process ends. VMA.
 */
#ifndef VMA_VMA_H
#define VMA_VMA_H

#include <stdbool.h>

#include "base/list.h"
#include "loop/loop.h"
#include "vma/conf.h"

struct api;
struct session;

struct vma {
	struct loop *loop;
	struct vma_conf conf;
	const char *self; /* path of this program */
	bool is_init;     /* process 1 of the container, or beside qvd-boot */
	bool in_machine;  /* its node comes by TCP */
	bool ending;      /* an orderly end is going on */
	bool power_off;   /* the machine is to end, too */
	bool awaits_init; /* it was asked, and is to end us */
	int64_t started_ms;
	struct list tasks; /* our children: the reaper leaves them */
	struct list hooks; /* in the order in which they run */
	struct session *session;
	struct api *api;
	void (*end)(struct vma *vma); /* starts the orderly end */
};

#endif
