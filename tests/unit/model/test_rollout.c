/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Roll-outs: waves, statistics against known values, the decision, and how
 * often a version that is as good as the old one is halted all the same. */
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/rollout.h"

static void
test_waves(void **state)
{
	assert_int_equal(rollout_next_percent(0), 25);
	assert_int_equal(rollout_next_percent(1), 5);
	assert_int_equal(rollout_next_percent(3), 5);
	assert_int_equal(rollout_next_percent(5), 25);
	assert_int_equal(rollout_next_percent(10), 25);
	assert_int_equal(rollout_next_percent(25), 50);
	assert_int_equal(rollout_next_percent(50), 100);
	assert_int_equal(rollout_next_percent(100), 100);

	assert_int_equal(rollout_wave_size(20, 5), 1);
	assert_int_equal(rollout_wave_size(21, 5), 2);
	assert_int_equal(rollout_wave_size(3, 1), 1);
	assert_int_equal(rollout_wave_size(10000, 25), 2500);
	assert_int_equal(rollout_wave_size(7, 100), 7);
	assert_int_equal(rollout_wave_size(0, 50), 0);

	assert_int_equal(rollout_enough(0), 0);
	assert_int_equal(rollout_enough(1), 1);
	assert_int_equal(rollout_enough(5), 3);
	assert_int_equal(rollout_enough(500), 10);
}

static void
assert_near(double value, double want)
{
	if (!(fabs(value - want) <= 1e-4 * want))
		fail_msg("%.8g is not %.8g", value, want);
}

/* Values of R's fisher.test(matrix(c(bad_a, n_a - bad_a, bad_b, n_b -
 * bad_b), 2), alternative = "greater"); the first is Fisher's tea. */
static void
test_fisher(void **state)
{
	assert_near(rollout_fisher(3, 4, 1, 4), 0.24285714);
	assert_near(rollout_fisher(4, 4, 0, 4), 1.0 / 70);
	assert_near(rollout_fisher(3, 3, 0, 20), 1.0 / 1771);
	assert_near(rollout_fisher(0, 5, 3, 9), 1);
	assert_near(rollout_fisher(1, 1, 0, 1000), 1.0 / 1001);
	assert_near(rollout_fisher(0, 0, 3, 9), 1);
	assert_near(rollout_fisher(2, 3, 0, 0), 1);
	/* Large numbers don't overflow. */
	assert_true(rollout_fisher(900, 1000, 10, 1000) < 1e-300);
}

static void
test_larger(void **state)
{
	int64_t a[20], b[20];
	size_t i;

	/* All of a above all of b: U = 64, z = (64 - 32 - .5) / 9.5219, as in
	 * R's wilcox.test(a, b, alternative = "greater", exact = FALSE). */
	for (i = 0; i < 8; i++) {
		a[i] = 100 + (int64_t)i;
		b[i] = (int64_t)i;
	}
	assert_near(rollout_larger(a, 8, b, 8), 0.00046955285);
	assert_near(rollout_larger(b, 8, a, 8), 0.99967896);
	assert_near(rollout_larger(a, 7, b, 8), 1);
	/* Nothing but ties. */
	for (i = 0; i < 20; i++)
		a[i] = b[i] = 5;
	assert_near(rollout_larger(a, 20, b, 20), 1);
	/* Half of them tied: U = 200 + 100, ties in sd. */
	for (i = 0; i < 10; i++)
		a[i] = 6;
	assert_true(rollout_larger(a, 20, b, 20) < 0.001);
}

/* 20 desktops, one in the wave, the old version never failed. */
static struct rollout_in
quiet(void)
{
	return (struct rollout_in){ .percent = 5,
		.members = 1,
		.wave_vms = 1,
		.vms = 20,
		.watch_ms = 1800000,
		.old = { .starts = 20 },
		.old_version = "2",
		.new_version = "3" };
}

static struct rollout_plan
decide(const struct rollout_in *in)
{
	struct rollout_plan plan;

	rollout_decide(in, &plan);
	return plan;
}

static void
test_waiting(void **state)
{
	struct rollout_in in = quiet();
	struct rollout_plan plan = decide(&in);

	assert_int_equal(plan.verdict, ROLLOUT_WAIT);
	assert_int_equal(plan.wait_ms, 1800000);
	assert_string_equal(plan.text,
	    "1 more of the wave's 1 desktops must start before it can be "
	    "judged");
	in.wave_age_ms = 1800000;
	plan = decide(&in);
	assert_int_equal(plan.verdict, ROLLOUT_WAIT);
	assert_int_equal(plan.wait_ms, -1);

	in.wave_starts = 1;
	in.new.starts = 1;
	in.wave_age_ms = 1799999;
	plan = decide(&in);
	assert_int_equal(plan.verdict, ROLLOUT_WAIT);
	assert_int_equal(plan.wait_ms, 1);
	in.wave_age_ms++;
	plan = decide(&in);
	assert_int_equal(plan.verdict, ROLLOUT_WIDEN);
	assert_int_equal(plan.percent, 25);

	/* Nobody is to get what his node lacks. */
	in.awaits = "n2 (pulling 3 %)";
	plan = decide(&in);
	assert_int_equal(plan.verdict, ROLLOUT_WAIT);
	assert_true(plan.wait_ms > 0);
	assert_non_null(strstr(plan.text, "n2 (pulling 3 %)"));
	in.awaits = NULL;

	/* The last wave, and a farm whose desktops are all in the first. */
	in.percent = 100;
	in.members = 20;
	in.wave_vms = 10;
	in.wave_starts = 5;
	assert_int_equal(decide(&in).verdict, ROLLOUT_FINISH);
	in = quiet();
	in.vms = 1;
	in.watch_ms = 0;
	in.wave_starts = 1;
	assert_int_equal(decide(&in).verdict, ROLLOUT_FINISH);
	/* A wave that adds nobody needs no starts. */
	in = quiet();
	in.wave_vms = 0;
	in.watch_ms = 0;
	assert_int_equal(decide(&in).verdict, ROLLOUT_WIDEN);
}

static void
test_failing(void **state)
{
	struct rollout_in in = quiet();
	struct rollout_plan plan;

	in.new.starts = in.new.start_failures = 2;
	assert_int_equal(decide(&in).verdict, ROLLOUT_WAIT);
	in.new.starts = in.new.start_failures = 3;
	plan = decide(&in);
	assert_int_equal(plan.verdict, ROLLOUT_HALT);
	assert_string_equal(plan.text,
	    "3 of 3 starts of version 3 failed (version 2: 0 of 20)");
	/* Without any experience with the old one, and when it fails, too. */
	in.old.starts = 0;
	assert_int_equal(decide(&in).verdict, ROLLOUT_HALT);
	in.old.starts = in.old.start_failures = 20;
	assert_int_equal(decide(&in).verdict, ROLLOUT_HALT);

	/* One of ten fails, where one of a thousand did: after 300 starts that
	 * is certain; the same rate on both sides isn't. */
	in = quiet();
	in.old =
	    (struct rollout_figures){ .starts = 1000, .start_failures = 1 };
	in.new =
	    (struct rollout_figures){ .starts = 300, .start_failures = 30 };
	assert_int_equal(decide(&in).verdict, ROLLOUT_HALT);
	in.old.start_failures = 100;
	assert_int_equal(decide(&in).verdict, ROLLOUT_WAIT);

	in = quiet();
	in.new = (struct rollout_figures){
		.starts = 5, .sessions = 5, .session_failures = 3
	};
	plan = decide(&in);
	assert_int_equal(plan.verdict, ROLLOUT_HALT);
	assert_non_null(strstr(plan.text, "3 of 5 sessions of version 3"));

	/* People power desktops off: only more than before is a reason. More
	 * ends than starts happen when runs began before we counted. */
	in = quiet();
	in.old = (struct rollout_figures){ .starts = 100, .crashes = 90 };
	in.new = (struct rollout_figures){ .starts = 10, .crashes = 12 };
	assert_int_equal(decide(&in).verdict, ROLLOUT_WAIT);
	in.old.crashes = 2;
	plan = decide(&in);
	assert_int_equal(plan.verdict, ROLLOUT_HALT);
	assert_non_null(strstr(
	    plan.text, "10 of 10 runs of version 3 ended by themselves"));
}

static void
test_slow(void **state)
{
	struct rollout_in in = quiet();
	struct rollout_plan plan;
	int64_t old_ms[40], new_ms[12];
	size_t i;

	for (i = 0; i < 40; i++)
		old_ms[i] = 2000 + 10 * (int64_t)i;
	for (i = 0; i < 12; i++)
		new_ms[i] = 4000 + 10 * (int64_t)i;
	in.old.desktop_ms = old_ms;
	in.old.n_desktop_ms = 40;
	in.new.desktop_ms = new_ms;
	in.new.n_desktop_ms = 12;
	plan = decide(&in);
	assert_int_equal(plan.verdict, ROLLOUT_HALT);
	assert_string_equal(plan.text,
	    "the way to the desktop takes 4.1 s with version 3 (the median of "
	    "12), 2.2 s with version 2 (of 40)");
	/* Certainly slower, but not so that anybody would notice. */
	for (i = 0; i < 12; i++)
		new_ms[i] = 2500 + 10 * (int64_t)i;
	assert_int_equal(decide(&in).verdict, ROLLOUT_WAIT);
	/* One that fetched the image first. */
	for (i = 0; i < 12; i++)
		new_ms[i] = 2000 + 30 * (int64_t)i;
	new_ms[0] = 60000;
	assert_int_equal(decide(&in).verdict, ROLLOUT_WAIT);
}

/* A version that fails as rarely as the old one (2 %), looked at after each
 * of 200 starts; and one that fails five times as often. */
static int
halted_of_10000(double rate, int starts)
{
	int halted = 0, i, n;
	unsigned seed = 7;

	for (i = 0; i < 10000; i++) {
		struct rollout_in in = quiet();

		in.old = (struct rollout_figures){ .starts = 500,
			.start_failures = 10 };
		for (n = 0; n < starts; n++) {
			in.new.starts++;
			if (rand_r(&seed) / (RAND_MAX + 1.0) >= rate)
				continue;
			in.new.start_failures++;
			if (decide(&in).verdict == ROLLOUT_HALT) {
				halted++;
				break;
			}
		}
	}
	return halted;
}

static void
test_false_alarms(void **state)
{
	int good = halted_of_10000(0.02, 200), bad = halted_of_10000(0.5, 20);

	if (good >= 100)
		fail_msg("%d of 10000 good roll-outs were halted", good);
	if (bad < 9900)
		fail_msg("%d of 10000 bad roll-outs were halted", bad);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waves),
		cmocka_unit_test(test_fisher),
		cmocka_unit_test(test_larger),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_failing),
		cmocka_unit_test(test_slow),
		cmocka_unit_test(test_false_alarms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
