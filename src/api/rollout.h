/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Roll-outs: rollouts.c has the requests about them, rollout_drive.c moves
 * them on. Both change a roll-out by the statements below, each of which is
 * one compare-and-set with the events that tell of it. Used in qvd-api only.
 */
#ifndef API_ROLLOUT_H
#define API_ROLLOUT_H

#include "db/db.h"

/* Part of a statement: of the VMs of "joined", those that run the old version
 * of the roll-out "u" are to expire when it says. What an administrator has
 * set for a VM stays. */
#define ROLLOUT_EXPIRES                                                  \
	"x AS (UPDATE vms v SET expire_rollout_id = u.id, "              \
	"expire_soft_at = now() + u.soft_ms * interval '1 ms', "         \
	"expire_hard_at = now() + u.hard_ms * interval '1 ms' "          \
	"FROM u, joined j, vm_runtimes t WHERE v.id = j.id "             \
	"AND t.vm_id = j.id AND t.image_id = u.old_image_id "            \
	"AND t.state <> 'stopped' AND (v.expire_rollout_id IS NOT NULL " \
	"OR coalesce(v.expire_soft_at, v.expire_hard_at) IS NULL) "      \
	"AND coalesce(u.soft_ms, u.hard_ms) IS NOT NULL) "

/* Begins the next wave: id, wave that it follows, percent, number of VMs by
 * place, name of the event, who or what began it. Gives id, wave_vms; nothing
 * if somebody else was first. */
extern const struct db_stmt rollout_widen_stmt;
/* Nobody gets the new version any more: id, wave or NULL, reason. */
extern const struct db_stmt rollout_halt_stmt;

#endif
