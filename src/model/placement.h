/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * On which node a VM is to run. The caller reads the candidates in its
 * transaction and passes them; the choice is a pure function of them, so
 * that the same farm always places the same way. Used by the broker (a user
 * connects) and the API (an administrator starts a VM).
 */
#ifndef MODEL_PLACEMENT_H
#define MODEL_PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/states.h"

struct placement_host {
	int64_t host_id;
	enum host_state state;
	bool blocked;
	bool lease_ok;             /* by the database's clock */
	int64_t memory_bytes;      /* of the node; 0: unknown */
	int64_t memory_used_bytes; /* limits of the VMs placed there */
	int32_t cpus;
	int32_t vms; /* placed there and wanted running */
};

struct placement_need {
	int64_t vm_id;
	int64_t memory_bytes;
	/* The node of its last run, 0: none: it has the VM's own files, so
	 * it is taken whenever it can take VMs at all. */
	int64_t last_host_id;
};

/*
 * The last host if it takes VMs; else the host with most room: the lesser
 * of its free share of memory and its CPUs per VM (the new one counted), the
 * lowest id among equals. Memory limits may be overcommitted (desktops
 * rarely use theirs): a full host is still taken when all are full.
 * ERR_UNAVAILABLE, which says what is wrong with the hosts, if none can.
 */
int placement_choose(const struct placement_need *need,
    const struct placement_host *hosts, size_t n_hosts, int64_t *ret_host_id,
    struct err *err);

#endif
