/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The commands of `qvd vm` beside those of all nouns and its table (vm.c):
 * vm_stream.c shows consoles and screens. Nothing to own. Runs as the caller.
 */
#ifndef CLI_VM_H
#define CLI_VM_H

#include "cli/cli.h"

/* vm_stream.c */
int vm_console(struct cli *cli, const struct values *values, struct err *err);
int vm_screen(struct cli *cli, const struct values *values, struct err *err);

#endif
