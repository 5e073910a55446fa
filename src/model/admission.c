/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/admission.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* Below calm nothing is held back, from high on only the floor goes on. */
struct resource {
	const char *word;
	double calm, high;
	bool shared; /* fairly, by the kernel: the floor is one start a CPU */
};

static const struct resource psi[PRESSURE_KINDS] = {
	[PRESSURE_CPU] = { "CPU", 30, 90, true },
	[PRESSURE_MEMORY] = { "memory", 2, 20, false },
	[PRESSURE_IO] = { "disk", 20, 80, false },
};
static const struct resource load = { "CPU", 1, 4, true };

bool
pressure_parse(const char *text, double *ret_avg10, int64_t *ret_total_us)
{
	const char *avg = strstr(text, "avg10="), *total;
	char *end;

	if (!str_starts(text, "some ") || avg == NULL ||
	    (total = strstr(text, "total=")) == NULL)
		return false;
	*ret_avg10 = strtod(avg + 6, &end);
	if (end == avg + 6)
		return false;
	*ret_total_us = strtoll(total + 6, &end, 10);
	return end != total + 6 && *ret_total_us >= 0;
}

static int
turns_of(const struct resource *r, double value, int cpus, int max)
{
	int floor = r->shared && cpus > 1 ? cpus : 1;
	double part = (value - r->calm) / (r->high - r->calm);

	if (max <= floor || part <= 0)
		return max;
	if (part >= 1)
		return floor;
	return max - (int)(part * (max - floor) + 0.5);
}

int
admission_turns(
    const struct pressure *p, int cpus, int max, const char **ret_short)
{
	const struct resource *resources = p->has_psi ? psi : &load;
	const double *values = p->has_psi ? p->percent : &p->load;
	int n = p->has_psi ? PRESSURE_KINDS : 1, turns = max, i, t;
	const char *shortage = NULL;

	for (i = 0; i < n; i++) {
		t = turns_of(&resources[i], values[i], cpus, max);
		if (t < turns) {
			turns = t;
			shortage = resources[i].word;
		}
	}
	if (ret_short != NULL)
		*ret_short = shortage;
	return turns;
}

bool
admission_crowded(const struct pressure *p, int cpus, int max, int starting)
{
	const char *shortage;

	admission_turns(p, cpus, max, &shortage);
	return starting > cpus || shortage != NULL;
}

int64_t
admission_estimate_ms(int place, int turns, int64_t start_ms)
{
	return (place + turns - 1) / turns * start_ms;
}

bool
admission_tells(int told, int place)
{
	return told == 0 || place <= told / 2;
}

void
admission_text(char *dst, size_t size, int place, int waiting,
    int64_t estimate_ms, const char *shortage)
{
	snprintf(dst, size,
	    "waiting for its turn to start: place %d of %d, about %lld s%s%s%s",
	    place, waiting, (long long)(estimate_ms + 999) / 1000,
	    shortage != NULL ? " (the node is short of " : "",
	    shortage != NULL ? shortage : "", shortage != NULL ? ")" : "");
}
