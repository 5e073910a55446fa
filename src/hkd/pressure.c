/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How hard pressed the node is: PSI where the kernel has it, else the load.
 * Read when somebody waits for a turn, not by the clock. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysinfo.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "hkd/node.h"

/* Within so short a time the last answer is as good. */
#define FRESH_MS 250

static const char *const files[PRESSURE_KINDS] = {
	[PRESSURE_CPU] = "/proc/pressure/cpu",
	[PRESSURE_MEMORY] = "/proc/pressure/memory",
	[PRESSURE_IO] = "/proc/pressure/io",
};

/* The share since the last look; the kernel's average over 10 s would still
 * speak of the storm when it is over, or not yet when it begins. */
static bool
read_psi(struct pressure_meter *m, int kind, int64_t elapsed_ms)
{
	_cleanup_(freep)
	char *text = NULL;
	double avg10;
	int64_t total, waited;

	if (fs_read_file(files[kind], 4096, &text, NULL, NULL) < 0 ||
	    !pressure_parse(text, &avg10, &total))
		return false;
	waited = total - m->total_us[kind];
	m->total_us[kind] = total;
	m->last.percent[kind] =
	    elapsed_ms < 0 || elapsed_ms > 10000
		? avg10
		: (double)waited / 10.0 / (double)elapsed_ms;
	return true;
}

static double
load_per_cpu(void)
{
	double load[1];

	return getloadavg(load, 1) == 1 ? load[0] / get_nprocs() : 0;
}

const struct pressure *
pressure_read(struct pressure_meter *m)
{
	int64_t now = time_now_ms();
	int64_t elapsed = m->at_ms == 0 ? -1 : now - m->at_ms;
	int i;

	if (elapsed >= 0 && elapsed < FRESH_MS)
		return &m->last;
	m->at_ms = now;
	m->last.has_psi = true;
	for (i = 0; i < PRESSURE_KINDS; i++)
		if (!read_psi(m, i, elapsed))
			m->last.has_psi = false;
	if (!m->last.has_psi)
		m->last.load = load_per_cpu();
	return &m->last;
}
