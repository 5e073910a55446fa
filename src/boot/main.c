/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/boot.h"

static void
say(const char *fmt, va_list ap)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "qvd-boot: ");

	vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	dprintf(STDERR_FILENO, "%s\n", line);
}

void
boot_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
}

static _Noreturn void
power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;) /* the kernel can't: its node will end it */
		pause();
}

void
boot_fail(const char *what)
{
	boot_say("%s: %s", what, strerror(errno));
	power_off();
}

static void
mount_kernel(void)
{
	static const struct {
		const char *fs, *at;
	} mounts[] = { { "devtmpfs", "/dev" }, { "proc", "/proc" },
		{ "sysfs", "/sys" } };
	size_t i;

	for (i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].at, 0755);
		if (mount(mounts[i].fs, mounts[i].at, mounts[i].fs, MS_NOSUID,
			NULL) < 0)
			boot_fail(mounts[i].at);
	}
}

static void
be_a_machine(void)
{
	boot_make_root();
	boot_set_network();
	boot_enter_root();
	boot_run();
}

int
main(void)
{
	char word[BOOT_FACT];

	if (getpid() != 1) {
		fputs("qvd-boot is process 1 of a virtual machine; see "
		      "docs/kvm.md\n",
		    stderr);
		return EXIT_FAILURE;
	}
	umask(022);
	mount_kernel();
	boot_load_modules();
	if (boot_fact("pack", word, sizeof(word)))
		boot_pack();
	else
		be_a_machine();
	power_off();
}
