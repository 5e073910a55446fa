/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The decision of the transaction that gives a user a session in a VM: what
 * to write, or the exact refusal. The broker locks and reads the rows, calls
 * this, writes what it says and commits. The order and the texts of the
 * refusals are those of QVD's wire protocol. Pure.
 */
#ifndef MODEL_ACQUIRE_H
#define MODEL_ACQUIRE_H

#include "base/err.h"
#include "model/rows.h"

struct acquire_in {
	int64_t vm_id;                        /* as asked for */
	int64_t user_id;                      /* who is logged in */
	const struct vm_row *vm;              /* NULL: no such row */
	const struct vm_runtime_row *runtime; /* NULL: never ran */
	const struct session_row *session;    /* NULL: never connected */
	const struct user_row *user;
	const struct tenant_row *tenant;
	/* The placed host's, when vm->host_id is set. */
	const char *host_name;
	bool host_running; /* state running and its lease not over */
	/* SHA-256 of X-QVD-Resume as the row's text ("\x" hex); NULL without
	 * that header. */
	const char *resume_key_hash;
};

enum acquire_run {
	ACQUIRE_JOIN, /* the run that is going on */
	ACQUIRE_START /* epoch = next_epoch, desired = running; place it when
		       * the VM has no host or its host can't run it */
};

struct acquire_plan {
	enum acquire_run run;
	bool place;         /* choose a host (START only) */
	bool takes_back;    /* its suspension is wanted, and hasn't begun:
			     * desired = running (JOIN only) */
	bool evict;         /* somebody holds the session: its holder hears */
	int64_t epoch;      /* the run to wait for */
	int64_t generation; /* of the session: write it */
};

/*
 * 0 and *ret, or a refusal:
 *   ERR_NOT_FOUND   The requested virtual machine does not exist
 *   ERR_BLOCKED     The requested virtual machine is offline for maintenance
 *   ERR_AUTH        user or tenant blocked since the login
 *   ERR_FORBIDDEN   You are not allowed to access requested virtual machine
 *   ERR_TAKEN_OVER  a reconnection after somebody else took the session
 *   ERR_CONFLICT    a reconnection after the VM was stopped
 *   ERR_UNAVAILABLE zombie, or its node is down
 */
int acquire_decide(
    const struct acquire_in *in, struct acquire_plan *ret, struct err *err);

enum stop_plan {
	STOP_NOTHING, /* it is stopped, or stopping already: wait for it */
	STOP_WRITE,   /* desired = stopped */
};
/* The same for stop_vm. A VM whose start is wanted but not begun is stopped
 * by STOP_WRITE too. */
int stop_decide(
    const struct acquire_in *in, enum stop_plan *ret, struct err *err);

/* True if the run that vm->epoch names has ended or never was: the next
 * wish to run is a new epoch. */
bool acquire_run_is_over(
    const struct vm_row *vm, const struct vm_runtime_row *runtime);
/* Whoever joins a run (over: that is over) whose suspension is wanted takes
 * the wish back. */
bool acquire_takes_back(const struct vm_row *vm, bool over);

#endif
