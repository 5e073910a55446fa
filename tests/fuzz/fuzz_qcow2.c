/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The head and the tables of a stranger's qcow2 file. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storage/qcow2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);
	struct qcow2_head head;
	struct err err;

	if (size >= sizeof(head) && write(fd, data, size) == (ssize_t)size) {
		memcpy(&head, data, sizeof(head));
		qcow2_check(fd, "disk", size, &head, &err);
	}
	close(fd);
	return 0;
}
