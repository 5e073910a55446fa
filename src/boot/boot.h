/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qvd-boot: process 1 of a virtual machine that is made from a tree (an image
 * that containers run from, too). It comes with the initial RAM disk that the
 * node makes of the image's kernel, and makes of three disks what a container
 * is given: the image below, the VM's own changes above it, the home. Then it
 * runs the agent as process 1 of a PID namespace, as a container does, and
 * stays: it minds the power button, gives a shell on the serial console, and
 * turns the machine off when the agent has ended. Of a machine that stands, its
 * node asks it for the changes alone (pack.c).
 *
 * It is linked statically with the C library alone: around it is nothing. It
 * has one thread and speaks to the console. What fails for good is said there
 * and ends the machine, which its node notices.
 */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H

#include <stdbool.h>
#include <stddef.h>

#define BOOT_ROOT  "/newroot"
#define BOOT_AGENT "/usr/lib/qvd/qvd-vma"
#define BOOT_FACT  256 /* longest word of the node */

/* The VM's own changes, the upper directory of its overlay. */
#define BOOT_CHANGES "/disk/upper"

/* Writes the sentence to the console. */
void boot_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same with the reason (errno), then turns the machine off. */
_Noreturn void boot_fail(const char *what);

/* modules.c: loads /modules/ in the order of its names. */
void boot_load_modules(void);

/* disks.c: BOOT_ROOT is the root file system, writable, with home, /dev, /sys,
 * /run and the agent in it. */
void boot_make_root(void);
/* Makes it ours: what was in the RAM disk is gone. */
void boot_enter_root(void);

/* The image and the changes above it, only to be read: BOOT_CHANGES, and
 * merged at BOOT_ROOT. */
void boot_show_changes(void);
/* The disk, to be written. */
int boot_open_disk(const char *serial);

/* pack.c: instead of all that: the changes onto the disk `pack`. Its last
 * sector is the mark, 8 bytes, and the length of the tar, little-endian
 * (hypervisor/kvm_pack.c reads it). */
#define BOOT_PACK_MARK "QVDPACK1"
void boot_pack(void);

/* facts.c */
/* What the node says of this machine; false: nothing, or too much. */
bool boot_fact(const char *name, char *ret, size_t size);
/* Host name, address, route, name servers. */
void boot_set_network(void);

/* run.c: the agent, until its end. Returns when everything has ended. */
void boot_run(void);

#endif
