/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How a new version of an image reaches the VMs that follow a tag: how large
 * a wave is, when the next may begin, and when the new version is worse than
 * the old one. Which VMs are in is the database's affair (rollout_place() in
 * sql/), because it must be the same for whoever resolves a tag. Pure
 * functions of figures that the caller counted; used by the API daemon,
 * which drives roll-outs.
 */
#ifndef MODEL_ROLLOUT_H
#define MODEL_ROLLOUT_H

#include <stddef.h>
#include <stdint.h>

/* What is known of the runs of one version. */
struct rollout_figures {
	int64_t starts;         /* ended well or badly */
	int64_t start_failures; /* of them */
	int64_t crashes;        /* runs that ended by themselves */
	int64_t sessions;       /* that were begun, well or badly; resumed
				 * ones don't count */
	int64_t session_failures;
	const int64_t *start_ms; /* from start wanted to running */
	size_t n_start_ms;
	const int64_t *desktop_ms; /* from connecting to the desktop */
	size_t n_desktop_ms;
};

struct rollout_in {
	int percent;         /* of the present wave; 0: a group or a host */
	int64_t vms;         /* that follow the tag */
	int64_t members;     /* of them, in this wave or an earlier one */
	int64_t wave_vms;    /* that this wave added */
	int64_t wave_starts; /* VMs that ran the new version in this wave */
	int64_t wave_age_ms, watch_ms;
	struct rollout_figures old, new;
	/* Nodes that don't have the new version yet, in words; NULL: none. */
	const char *awaits;
	const char *old_version, *new_version;
};

enum rollout_verdict {
	ROLLOUT_WAIT,   /* for what text says; look again after wait_ms */
	ROLLOUT_WIDEN,  /* to percent */
	ROLLOUT_FINISH, /* the tag may move */
	ROLLOUT_HALT,   /* text says why */
};

#define ROLLOUT_TEXT_MAX 512
struct rollout_plan {
	enum rollout_verdict verdict;
	int percent;
	int64_t wait_ms; /* -1: only an event can change anything */
	char text[ROLLOUT_TEXT_MAX];
};

void rollout_decide(const struct rollout_in *in, struct rollout_plan *ret);

/* The wave after one of `percent`: 1, 5, 25, 50, 100. Each is two to five
 * times the one before: what a wave has shown holds for the next, and a
 * fault that is too rare to be seen in one is seen in the next (the
 * exponential roll-out of "Canarying Releases", chapter 16 of the SRE
 * Workbook, O'Reilly 2018). */
int rollout_next_percent(int percent);
/* How many of n VMs are in a wave of `percent`: rounded up, so that a canary
 * exists in the smallest farm. */
int64_t rollout_wave_size(int64_t n, int percent);
/* How many VMs must have run the new version before a wave that added n can
 * be judged: half as many, at most 10 (without any failure among 10, the
 * rate of failures is below 26 % with 95 % confidence, by 1 - 0.05^(1/10);
 * broken versions fail nearly always). */
int64_t rollout_enough(int64_t n);

/* One-sided p value of Fisher's exact test: how likely it is that chance
 * alone puts at least bad_a of all failures into the n_a trials of a, and
 * the rest (bad_b) into the n_b of b. Right for small numbers, where normal
 * approximations are not (R. A. Fisher, Statistical Methods for Research
 * Workers, 1934, section 21.02). 1 if a has no trials. */
double rollout_fisher(int64_t bad_a, int64_t n_a, int64_t bad_b, int64_t n_b);
/* One-sided p value of the Mann-Whitney U test that values of a are larger
 * than those of b; normal approximation with correction for ties and
 * continuity, which is good from eight values each (H. B. Mann, D. R.
 * Whitney, Annals of Mathematical Statistics 18, 1947). 1 for fewer. It
 * looks at ranks only: one start that had to fetch the image first doesn't
 * make a version slow. */
double rollout_larger(
    const int64_t *a, size_t n_a, const int64_t *b, size_t n_b);

#endif
