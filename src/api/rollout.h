/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Roll-outs: rollouts.c has the requests about them, rollout_drive.c moves
 * them on. Both change a roll-out by the statements below, each of which is
 * one compare-and-set with the events that tell of it. Used in qvd-api only.
 */
#ifndef API_ROLLOUT_H
#define API_ROLLOUT_H

#include "db/db.h"

/* Begins the next wave: id, wave that it follows, percent, number of VMs by
 * place, name of the event, who or what began it. Gives id, wave_vms; nothing
 * if somebody else was first. */
extern const struct db_stmt rollout_widen_stmt;
/* Nobody gets the new version any more: id, wave or NULL, reason. */
extern const struct db_stmt rollout_halt_stmt;

#endif
