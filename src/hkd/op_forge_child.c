/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The forge itself; its socket is descriptor 0. */
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "hkd/op_forge.h"
#include "hkd/op_wire.h"
#include "json/json.h"

/* In the fork. It would go on without the helper otherwise. */
static int
become_operation(int sock, pid_t helper)
{
	if (setpgid(0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
	    getppid() != helper || dup2(sock, STDIN_FILENO) < 0)
		return EXIT_FAILURE;
	close(sock);
	return 0;
}

/*
 * The C library's fork() can't make a sibling. What it does besides is about
 * threads, which a forge doesn't have.
 */
static pid_t
fork_sibling(int *ret_pidfd)
{
	struct clone_args args = {
		.flags = CLONE_PARENT | CLONE_PIDFD,
		.pidfd = (uintptr_t)ret_pidfd,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

static int
answer(pid_t pid, int pidfd, int errnum)
{
	_cleanup_(json_decrefp)
	json_t *msg = json_pack("{si si}", "pid", (int)pid, "errno", errnum);

	return op_wire_send(STDIN_FILENO, msg, pidfd, NULL);
}

int
op_forge_serve(void)
{
	pid_t helper = getppid();

	for (;;) {
		_cleanup_(json_decrefp)
		json_t *wanted = NULL;
		_cleanup_(closep)
		int sock = -1;
		_cleanup_(closep)
		int pidfd = -1;
		pid_t pid;

		if (op_wire_recv(STDIN_FILENO, 0, &wanted, &sock, NULL) <= 0)
			exit(EXIT_SUCCESS);
		pid = fork_sibling(&pidfd);
		if (pid == 0)
			return become_operation(take_fd(&sock), helper);
		if (answer(pid, pidfd, pid < 0 ? errno : 0) < 0)
			exit(EXIT_FAILURE);
	}
}
