/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/rollout.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/*
 * A difference that chance makes in less than one of a thousand cases is
 * taken for one of the versions. The usual 0.05 is for a test that is made
 * once; ours is made after each event. test_rollout.c plays ten thousand
 * roll-outs of a version that is as good as the old one: with 0.001, fewer
 * than one of a hundred halts.
 */
#define AWAIT_MS 10000 /* nobody says when a node goes */
#define ALPHA    0.001
/* Fewer failures than that may have one cause that is not the version's. So
 * many, and half of the trials, are too many whatever the old version did: it
 * may never have run. */
#define BAD_LEAST 3
/* Slower is what people notice: half as long again, and a second. */
#define SLOWER_RATIO 1.5
#define SLOWER_MS    1000
#define RANKS_LEAST  8
#define ENOUGH_MOST  10

int
rollout_next_percent(int percent)
{
	static const int steps[] = { 1, 5, 25, 50, 100 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(steps); i++)
		if (steps[i] > percent)
			/* Those of a group or a host were the first. */
			return percent == 0 ? 25 : steps[i];
	return 100;
}

int64_t
rollout_wave_size(int64_t n, int percent)
{
	return (n * percent + 99) / 100;
}

int64_t
rollout_enough(int64_t n)
{
	int64_t half = (n + 1) / 2;

	return half < ENOUGH_MOST ? half : ENOUGH_MOST;
}

/* Statistics */

static double
log_choose(int64_t n, int64_t k)
{
	return lgamma((double)n + 1) - lgamma((double)k + 1) -
	       lgamma((double)(n - k) + 1);
}

double
rollout_fisher(int64_t bad_a, int64_t n_a, int64_t bad_b, int64_t n_b)
{
	int64_t bad = bad_a + bad_b, most = bad < n_a ? bad : n_a, k;
	double all, p = 0;

	if (n_a <= 0)
		return 1;
	all = log_choose(n_a + n_b, bad);
	for (k = bad_a; k <= most; k++)
		if (bad - k <= n_b)
			p += exp(log_choose(n_a, k) + log_choose(n_b, bad - k) -
				 all);
	return p < 1 ? p : 1;
}

struct ranked {
	int64_t value;
	bool of_a;
};

static int
compare_ranked(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	return (x->value > y->value) - (x->value < y->value);
}

double
rollout_larger(const int64_t *a, size_t n_a, const int64_t *b, size_t n_b)
{
	_cleanup_(freep)
	struct ranked *all = xcalloc(n_a + n_b + 1, sizeof(*all));
	double n = (double)(n_a + n_b), ranks = 0, ties = 0, u, sd;
	size_t i, j, k;

	if (n_a < RANKS_LEAST || n_b < RANKS_LEAST)
		return 1;
	for (i = 0; i < n_a; i++)
		all[i] = (struct ranked){ a[i], true };
	for (i = 0; i < n_b; i++)
		all[n_a + i] = (struct ranked){ b[i], false };
	qsort(all, n_a + n_b, sizeof(*all), compare_ranked);
	for (i = 0; i < n_a + n_b; i = j) {
		double t;

		/* Equal values share the mean of their ranks. */
		for (j = i; j < n_a + n_b && all[j].value == all[i].value; j++)
			;
		t = (double)(j - i);
		ties += t * t * t - t;
		for (k = i; k < j; k++)
			if (all[k].of_a)
				ranks += (double)(i + 1 + j) / 2;
	}
	u = ranks - (double)n_a * ((double)n_a + 1) / 2;
	sd = sqrt(
	    (double)n_a * (double)n_b / 12 * (n + 1 - ties / (n * (n - 1))));
	if (sd <= 0)
		return 1;
	return 0.5 *
	       erfc((u - (double)n_a * (double)n_b / 2 - 0.5) / (sd * sqrt(2)));
}

static int
compare_i64(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int64_t
median(const int64_t *v, size_t n)
{
	_cleanup_(freep)
	int64_t *copy = xcalloc(n, sizeof(*copy));

	memcpy(copy, v, n * sizeof(*copy));
	qsort(copy, n, sizeof(*copy), compare_i64);
	return copy[n / 2];
}

/* What is compared */

#define MEMBER(name) offsetof(struct rollout_figures, name)

static const struct {
	size_t bad, all;
	/* Half of them is bad by itself. Not for ends, because people power
	 * their desktops off. */
	bool by_itself;
	const char *what, *how;
} rates[] = {
	{ MEMBER(start_failures), MEMBER(starts), true, "starts", "failed" },
	{ MEMBER(session_failures), MEMBER(sessions), true, "sessions",
	    "could not begin" },
	{ MEMBER(crashes), MEMBER(starts), false, "runs",
	    "ended by themselves" },
};

static const struct {
	size_t values, n;
	const char *what;
} times[] = {
	{ MEMBER(start_ms), MEMBER(n_start_ms), "starting a desktop" },
	{ MEMBER(desktop_ms), MEMBER(n_desktop_ms), "the way to the desktop" },
};

static const void *
member(const struct rollout_figures *f, size_t offset)
{
	return (const char *)f + offset;
}

static int64_t
count(const struct rollout_figures *f, size_t offset)
{
	return *(const int64_t *)member(f, offset);
}

__attribute__((format(printf, 2, 3))) static bool
say(struct rollout_plan *plan, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(plan->text, sizeof(plan->text), fmt, ap);
	va_end(ap);
	return true;
}

/* A run that began before we counted may end after. */
static int64_t
at_most(int64_t n, int64_t most)
{
	return n < most ? n : most;
}

static bool
fails_more(const struct rollout_in *in, struct rollout_plan *plan)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rates); i++) {
		int64_t n = count(&in->new, rates[i].all);
		int64_t bad = at_most(count(&in->new, rates[i].bad), n);
		int64_t old_n = count(&in->old, rates[i].all);
		int64_t old_bad = at_most(count(&in->old, rates[i].bad), old_n);

		if (bad < BAD_LEAST)
			continue;
		if ((rates[i].by_itself && 2 * bad >= n) ||
		    rollout_fisher(bad, n, old_bad, old_n) < ALPHA)
			return say(plan,
			    "%lld of %lld %s of version %s %s (version %s: "
			    "%lld of %lld)",
			    (long long)bad, (long long)n, rates[i].what,
			    in->new_version, rates[i].how, in->old_version,
			    (long long)old_bad, (long long)old_n);
	}
	return false;
}

static bool
is_slower(const struct rollout_in *in, struct rollout_plan *plan)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(times); i++) {
		const int64_t *v =
		    *(const int64_t *const *)member(&in->new, times[i].values);
		const int64_t *old_v =
		    *(const int64_t *const *)member(&in->old, times[i].values);
		size_t n = *(const size_t *)member(&in->new, times[i].n);
		size_t old_n = *(const size_t *)member(&in->old, times[i].n);
		int64_t m, old_m;

		if (rollout_larger(v, n, old_v, old_n) >= ALPHA)
			continue;
		m = median(v, n);
		old_m = median(old_v, old_n);
		if ((double)m >= SLOWER_RATIO * (double)old_m &&
		    m - old_m >= SLOWER_MS)
			return say(plan,
			    "%s takes %.1f s with version %s (the median of "
			    "%zu), %.1f s with version %s (of %zu)",
			    times[i].what, (double)m / 1000, in->new_version, n,
			    (double)old_m / 1000, in->old_version, old_n);
	}
	return false;
}

/* The decision */

void
rollout_decide(const struct rollout_in *in, struct rollout_plan *ret)
{
	int64_t left = in->watch_ms - in->wave_age_ms;
	int64_t missing = rollout_enough(in->wave_vms) - in->wave_starts;

	*ret = (struct rollout_plan){ .verdict = ROLLOUT_HALT, .wait_ms = -1 };
	if (fails_more(in, ret) || is_slower(in, ret))
		return;
	ret->verdict = ROLLOUT_WAIT;
	if (left > 0)
		ret->wait_ms = left;
	if (missing > 0)
		say(ret,
		    "%lld more of the wave's %lld desktops must start before "
		    "it can be judged",
		    (long long)missing, (long long)in->wave_vms);
	else if (left > 0)
		say(ret, "the wave is watched, nothing bad so far");
	else if (in->awaits != NULL) {
		ret->wait_ms = AWAIT_MS;
		say(ret,
		    "the next wave waits until all nodes have the new version: "
		    "%.300s",
		    in->awaits);
	} else if (in->percent == 100 || in->members >= in->vms)
		ret->verdict = ROLLOUT_FINISH;
	else
		ret->verdict = ROLLOUT_WIDEN;
	ret->percent = rollout_next_percent(in->percent);
}
