/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "model/admission.h"

static int
turns(double cpu, double memory, double io)
{
	const struct pressure p = { true, { cpu, memory, io }, 0 };

	return admission_turns(&p, 2, 8, NULL);
}

static void
test_turns(void **state)
{
	int last = 8, t;
	double x;

	assert_int_equal(turns(0, 0, 0), 8);
	assert_int_equal(turns(30, 2, 20), 8); /* still calm */
	/* The processor is shared: one a CPU goes on. Memory isn't. */
	assert_int_equal(turns(100, 0, 0), 2);
	assert_int_equal(turns(0, 20, 0), 1);
	assert_int_equal(turns(0, 0, 99), 1);
	assert_int_equal(turns(100, 100, 100), 1);
	/* The worst decides, and more pressure never means more starts. */
	assert_int_equal(turns(60, 0, 0), turns(60, 1, 10));
	for (x = 0; x <= 100; x += 0.5) {
		t = turns(x, 0, 0);
		assert_true(t >= 1 && t <= last);
		last = t;
	}
}

static void
test_without_psi(void **state)
{
	struct pressure p = { .load = 0.5, .percent = { 99, 99, 99 } };
	const char *shortage = "?";

	assert_int_equal(admission_turns(&p, 2, 8, &shortage), 8);
	assert_null(shortage);
	p.load = 10;
	assert_int_equal(admission_turns(&p, 2, 8, &shortage), 2);
	assert_string_equal(shortage, "CPU");
}

static void
test_bounds(void **state)
{
	const struct pressure worst = { true, { 100, 100, 100 }, 0 };
	const char *shortage;
	int cpus, max;

	/* However small the limit and large the node, somebody's turn comes. */
	for (cpus = 1; cpus <= 128; cpus++)
		for (max = 1; max <= 300; max += 7) {
			int t = admission_turns(&worst, cpus, max, &shortage);

			assert_true(t >= 1 && t <= max);
		}
	assert_int_equal(admission_turns(&worst, 64, 1, &shortage), 1);
	assert_null(shortage); /* it is the limit, not a shortage */
}

static void
test_parse(void **state)
{
	static const char *const bad[] = { "", "some",
		"some avg10=", "some avg10=x total=3", "some avg10=1.0",
		"some avg10=1.0 total=", "some avg10=1.0 total=-4",
		"full avg10=1.0 total=3" };
	double avg;
	int64_t total;
	size_t i;

	assert_true(pressure_parse("some avg10=1.53 avg60=0.87 avg300=1.00 "
				   "total=162563\nfull avg10=0.00 avg60=0.00 "
				   "avg300=0.00 total=9\n",
	    &avg, &total));
	assert_true(avg > 1.52 && avg < 1.54);
	assert_int_equal(total, 162563);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(pressure_parse(bad[i], &avg, &total));
}

static void
test_estimate(void **state)
{
	assert_int_equal(admission_estimate_ms(1, 4, 500), 500);
	assert_int_equal(admission_estimate_ms(4, 4, 500), 500);
	assert_int_equal(admission_estimate_ms(5, 4, 500), 1000);
	assert_int_equal(admission_estimate_ms(400, 2, 100), 20000);
}

static void
test_tells(void **state)
{
	int told = 0, place, messages = 0;

	for (place = 400; place >= 1; place--)
		if (admission_tells(told, place)) {
			told = place;
			messages++;
		}
	assert_int_equal(told, 1);
	assert_int_equal(messages, 9); /* 400, 200, 100 ... 3, 1 */
	/* Going back is no news. */
	assert_false(admission_tells(10, 12));
}

static void
test_text(void **state)
{
	char text[128];

	admission_text(text, sizeof(text), 12, 40, 8001, NULL);
	assert_string_equal(
	    text, "waiting for its turn to start: place 12 of 40, about 9 s");
	admission_text(text, sizeof(text), 1, 1, 10, "memory");
	assert_string_equal(text,
	    "waiting for its turn to start: place 1 of 1, about 1 s "
	    "(the node is short of memory)");
}

static void
a_start_is_alone_or_crowded(void **state)
{
	struct pressure p = { .has_psi = true };

	assert_false(admission_crowded(&p, 2, 8, 1));
	assert_false(admission_crowded(&p, 2, 8, 2));
	assert_true(admission_crowded(&p, 2, 8, 3));
	p.percent[PRESSURE_IO] = 70;
	assert_true(admission_crowded(&p, 2, 8, 1));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_without_psi),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_estimate),
		cmocka_unit_test(test_tells),
		cmocka_unit_test(a_start_is_alone_or_crowded),
		cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
