/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Parts of `qvd vm` in files of their own. */
#ifndef CLI_VM_H
#define CLI_VM_H

#include "cli/cli.h"

/* vm_stream.c */
int vm_console(struct cli *cli, const struct values *values, struct err *err);
int vm_screen(struct cli *cli, const struct values *values, struct err *err);

#endif
