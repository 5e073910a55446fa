/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/placement.h"

static bool
takes_vms(const struct placement_host *h)
{
	return h->state == HOST_RUNNING && h->lease_ok && !h->blocked;
}

static double
room(const struct placement_host *h, const struct placement_need *need)
{
	double memory = 0, cpu;

	if (h->memory_bytes > 0)
		memory =
		    1.0 - (double)(h->memory_used_bytes + need->memory_bytes) /
			      (double)h->memory_bytes;
	/* One CPU for itself: 1.0; a hundred VMs on one CPU: 0.01. */
	cpu = (double)(h->cpus > 0 ? h->cpus : 1) / (h->vms + 1.0);
	if (cpu > 1.0)
		cpu = 1.0;
	return memory < cpu ? memory : cpu;
}

static int
nobody(const struct placement_need *need, const struct placement_host *hosts,
    size_t n_hosts, struct err *err)
{
	size_t i, blocked = 0, down = 0;

	for (i = 0; i < n_hosts; i++) {
		if (hosts[i].blocked)
			blocked++;
		else
			down++;
	}
	if (n_hosts == 0)
		return err_set(err, ERR_UNAVAILABLE,
		    "Unable to start VM %lld, can't assign to any host: the "
		    "farm has no host; add one with 'qvd host add'",
		    (long long)need->vm_id);
	return err_set(err, ERR_UNAVAILABLE,
	    "Unable to start VM %lld, can't assign to any host: %zu not "
	    "running, %zu blocked ('qvd host list')",
	    (long long)need->vm_id, down, blocked);
}

int
placement_choose(const struct placement_need *need,
    const struct placement_host *hosts, size_t n_hosts, int64_t *ret_host_id,
    struct err *err)
{
	const struct placement_host *best = NULL;
	double best_room = 0, r;
	size_t i;

	for (i = 0; i < n_hosts; i++) {
		if (!takes_vms(&hosts[i]))
			continue;
		if (hosts[i].host_id == need->last_host_id) {
			*ret_host_id = hosts[i].host_id;
			return 0;
		}
		r = room(&hosts[i], need);
		if (best == NULL || r > best_room ||
		    (r >= best_room && hosts[i].host_id < best->host_id)) {
			best = &hosts[i];
			best_room = r;
		}
	}
	if (best == NULL)
		return nobody(need, hosts, n_hosts, err);
	*ret_host_id = best->host_id;
	return 0;
}
