/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who may start now. A node at nine o'clock is asked for hundreds of desktops
 * at once; started together they would starve each other and the desktops
 * that people already work in. How many may be on their way at once follows
 * the pressure (PSI: the share of the time in which somebody waited for a
 * resource), and who waits is told its place and an estimate. Pure: the
 * caller reads /proc and the clock.
 */
#ifndef MODEL_ADMISSION_H
#define MODEL_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pressure_kind { PRESSURE_CPU, PRESSURE_MEMORY, PRESSURE_IO };
#define PRESSURE_KINDS 3

struct pressure {
	bool has_psi;
	double percent[PRESSURE_KINDS]; /* of the time; with has_psi */
	double load;                    /* runnable per CPU; without */
};

/* The line "some" of a file of /proc/pressure or of a cgroup. */
bool pressure_parse(const char *text, double *ret_avg10, int64_t *ret_total_us);

/*
 * Desktops that may be starting at once: max while nothing presses, fewer
 * with the pressure of what presses most. Processor time is shared fairly by
 * weights, so one start a CPU always goes on; where memory or the disk is
 * short, only one. ret_short (may be NULL): what the node is short of, NULL
 * if nothing.
 */
int admission_turns(
    const struct pressure *p, int cpus, int max, const char **ret_short);

/* Whether a start that goes on now takes longer than it would alone: more of
 * them than CPUs, or the node is short of something. */
bool admission_crowded(
    const struct pressure *p, int cpus, int max, int starting);

/* Until whoever has that place (1: the next) gets its turn, when one start
 * takes start_ms. */
int64_t admission_estimate_ms(int place, int turns, int64_t start_ms);

/* Whether somebody who was last told the place `told` (0: none yet) is told
 * the new one: when it has halved. So a storm of n starts costs n log n
 * messages, not n². */
bool admission_tells(int told, int place);

/* What the waiting client reads. */
void admission_text(char *dst, size_t size, int place, int waiting,
    int64_t estimate_ms, const char *shortage);

#endif
