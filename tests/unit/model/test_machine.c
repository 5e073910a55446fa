/* SPDX-License-Identifier: GPL-3.0-or-later */
/* All states x events; deadlines; the words of SQL equal those of C. */
#include "test.h"

#include <glob.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/fill.h"
#include "model/machine.h"

/* What each pair gives, one row a state, one column an event in the order of
 * VM_EVENT_TABLE; '-' is refused. */
static const char *const vm_expected[VM_STATE_COUNT_] = {
	/* START READY STOP FAIL EXIT CLEAN STUCK ADOPT SUSPEND SAVED */
	[VM_STATE_STOPPED] = "S - - - - - - R - -",
	[VM_STATE_STARTING] = "- R P P P - - S - -",
	[VM_STATE_RUNNING] = "- - P P P - - R U -",
	[VM_STATE_STOPPING] = "- - - P P . Z P - D",
	[VM_STATE_ZOMBIE] = "- - - - Z . Z Z - -",
	[VM_STATE_SUSPENDING] = "- - - R P - - R - D",
	[VM_STATE_SUSPENDED] = "S - P - P - - R - -",
};
static const char vm_letters[] = { '.', 'S', 'R', 'P', 'Z', 'U', 'D' };

static void
test_vm_all_pairs(void **state)
{
	struct err err;
	int s, e;

	for (s = 0; s < VM_STATE_COUNT_; s++) {
		for (e = 0; e < VM_EVENT_COUNT_; e++) {
			enum vm_state to = VM_STATE_COUNT_;
			char want = vm_expected[s][2 * e];
			int r = vm_state_next(
			    (enum vm_state)s, (enum vm_event)e, &to, &err);

			if (want == '-') {
				assert_int_equal(r, -ERR_CONFLICT);
				assert_int_equal(to, VM_STATE_COUNT_);
				assert_non_null(
				    strstr(err.msg, vm_state_to_str(s)));
				assert_non_null(
				    strstr(err.msg, vm_event_to_str(e)));
			} else {
				assert_int_equal(r, 0);
				assert_int_equal(vm_letters[to], want);
			}
		}
	}
}

static const char *const session_expected[SESSION_COUNT_] = {
	/* START RESUME LISTEN CONNECT SUSPEND SUSPENDED STOP EXIT */
	[SESSION_STOPPED] = "s - - - - - - -",
	[SESSION_STARTING] = "- - l - - d x .",
	[SESSION_LISTENING] = "- - - c u d x .",
	[SESSION_CONNECTED] = "- - - - u d x .",
	[SESSION_SUSPENDING] = "- - - - - d x .",
	[SESSION_SUSPENDED] = "- s - - - - x .",
	[SESSION_STOPPING] = "- - - - - x x .",
};
static const char session_letters[] = { '.', 's', 'l', 'c', 'u', 'd', 'x' };

static void
test_session_all_pairs(void **state)
{
	struct err err;
	int s, e;

	for (s = 0; s < SESSION_COUNT_; s++) {
		for (e = 0; e < SESSION_EVENT_COUNT_; e++) {
			enum session_state to = SESSION_COUNT_;
			char want = session_expected[s][2 * e];
			int r = session_state_next((enum session_state)s,
			    (enum session_event)e, &to, &err);

			if (want == '-') {
				assert_int_equal(r, -ERR_CONFLICT);
				assert_int_equal(to, SESSION_COUNT_);
			} else {
				assert_int_equal(r, 0);
				assert_int_equal(session_letters[to], want);
			}
		}
	}
}

/* Every state is either one in which nothing is awaited, or has a deadline
 * whose event the state takes: no timer can fire into a refusal. */
static void
test_deadlines(void **state)
{
	enum vm_state vm;
	enum session_state session;
	struct err err;
	int s;

	for (s = 0; s < VM_STATE_COUNT_; s++) {
		const struct vm_deadline *d = vm_state_deadline(s);

		if (s == VM_STATE_STOPPED || s == VM_STATE_RUNNING ||
		    s == VM_STATE_SUSPENDED) {
			assert_int_equal(d->deadline_ms, 0);
			continue;
		}
		assert_true(d->deadline_ms > 0);
		assert_int_equal(vm_state_next(s, d->event, &vm, &err), 0);
	}
	for (s = 0; s < SESSION_COUNT_; s++) {
		const struct session_deadline *d = session_state_deadline(s);

		if (s == SESSION_STOPPED || s == SESSION_CONNECTED ||
		    s == SESSION_SUSPENDED) {
			assert_int_equal(d->deadline_ms, 0);
			continue;
		}
		assert_true(d->deadline_ms > 0);
		assert_int_equal(
		    session_state_next(s, d->event, &session, &err), 0);
	}
}

/* Compares the words of the list that begins at p, in order. */
static void
compare_list(const char *p, const char *table, const char *column,
    const struct enum_words *words)
{
	int i;

	for (i = 0; i < words->count; i++) {
		_cleanup_(freep)
		char *word = xasprintf("'%s'", words->words[i]);

		p += strspn(p, ", \t\n");
		if (!str_starts(p, word))
			fail_msg("%s.%s: expected %s at %.30s", table, column,
			    word, p);
		p += strlen(word);
	}
	if (*p != ')')
		fail_msg(
		    "%s.%s: more words than C has: %.30s", table, column, p);
}

/* Finds "<column> ... CHECK (<column> IN (...))" after "CREATE TABLE
 * <table>" and compares its words. */
static void
compare_check(const char *sql, const char *table, const char *column,
    const struct enum_words *words)
{
	_cleanup_(freep)
	char *head = xasprintf("CREATE TABLE %s (", table);
	_cleanup_(freep)
	char *check = xasprintf("(%s IN (", column);
	const char *p = strstr(sql, head), *end;

	assert_non_null(p);
	end = strstr(p, "\n);");
	p = strstr(p, check);
	assert_non_null(p);
	assert_true(p < end);
	compare_list(p + strlen(check), table, column, words);
}

/* The same in a later migration's "ADD CONSTRAINT <table>_<column>_check". */
static void
compare_new_check(const char *pattern, const char *table, const char *column,
    const struct enum_words *words)
{
	_cleanup_(freep)
	char *head = xasprintf(
	    "ADD CONSTRAINT %s_%s_check CHECK (%s IN (", table, column, column);
	_cleanup_(freep)
	char *sql = NULL;
	const char *p;
	struct err err;
	glob_t found;

	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	assert_int_equal(found.gl_pathc, 1);
	if (fs_read_file(found.gl_pathv[0], 1 << 20, &sql, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	globfree(&found);
	p = strstr(sql, head);
	assert_non_null(p);
	compare_list(p + strlen(head), table, column, words);
}

static void
test_sql_words(void **state)
{
	_cleanup_(freep)
	char *sql = NULL;
	_cleanup_(freep)
	char *rollouts = NULL;
	_cleanup_(freep)
	char *homes = NULL;
	struct err err;

	if (fs_read_file(SQL_DIR "/0001-farm.sql", 1 << 20, &sql, NULL, &err) <
		0 ||
	    fs_read_file(SQL_DIR "/0003-rollouts.sql", 1 << 20, &rollouts, NULL,
		&err) < 0 ||
	    fs_read_file(
		SQL_DIR "/0006-homes.sql", 1 << 20, &homes, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	compare_check(rollouts, "rollouts", "state", &rollout_state_words);
	compare_check(homes, "homes", "store", &home_store_words);
	compare_check(homes, "home_jobs", "action", &home_action_words);
	compare_check(homes, "home_jobs", "state", &home_job_state_words);
	compare_new_check(SQL_DIR "/*-suspension.sql", "vm_runtimes", "state",
	    &vm_state_words);
	compare_check(sql, "vm_runtimes", "session", &session_state_words);
	compare_new_check(
	    SQL_DIR "/*-suspension.sql", "vms", "desired", &vm_desired_words);
	compare_check(sql, "sessions", "state", &link_state_words);
	compare_new_check(
	    SQL_DIR "/*-images.sql", "images", "state", &image_state_words);
	compare_check(sql, "host_runtimes", "state", &host_state_words);
	compare_check(sql, "osfs", "kind", &osf_kind_words);
	compare_check(sql, "osfs", "hypervisor", &hypervisor_words);
	compare_check(sql, "osfs", "root", &root_kind_words);
	compare_new_check(
	    SQL_DIR "/*-machines.sql", "osfs", "machine", &osf_machine_words);
	compare_new_check(
	    SQL_DIR "/*-fill.sql", "vm_runtimes", "system_fill", &fill_words);
	compare_new_check(
	    SQL_DIR "/*-fill.sql", "vm_runtimes", "home_fill", &fill_words);
	compare_new_check(
	    SQL_DIR "/*-machines.sql", "osfs", "accel", &osf_accel_words);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vm_all_pairs),
		cmocka_unit_test(test_session_all_pairs),
		cmocka_unit_test(test_deadlines),
		cmocka_unit_test(test_sql_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
