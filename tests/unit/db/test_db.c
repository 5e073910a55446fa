/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The asynchronous database against a real PostgreSQL that is killed and
 * started again: statements, rows, transactions, notifications, deadlines,
 * reconnection, nothing lost and nothing stuck.
 */
#include "pg.h"

#include "base/time.h"
#include "db/db.h"

static struct pg pg;
static struct loop *loop;
static struct db *db;
static int ups, downs, notified;
static int up_pipe[2] = { -1, -1 }; /* tells the killer of each on_up */
static char last_payload[64];

static void
on_up(struct db *d, void *arg)
{
	ups++;
	if (up_pipe[1] >= 0 && write(up_pipe[1], "u", 1) < 0)
		fail_msg("pipe");
	loop_stop(loop);
}

static void
on_down(struct db *d, const struct err *err, void *arg)
{
	downs++;
}

static void
on_notify(struct db *d, const char *channel, const char *payload, void *arg)
{
	assert_true(str_eq(channel, "news") || str_eq(channel, "more"));
	notified++;
	str_copy(last_payload, sizeof(last_payload), payload);
	loop_stop(loop);
}

static void
open_db(int transactions)
{
	static const char *const channels[] = { "news", NULL };
	static const struct db_callbacks cbs = { on_up, on_down, on_notify };
	const struct db_conf conf = { .conninfo = pg.conninfo,
		.program = "test",
		.channels = channels,
		.transactions = transactions };

	loop = loop_new();
	db = db_new(loop, &conf, &cbs, NULL);
}

static void
close_db(void)
{
	struct timer t;

	db_free(db);
	/* One turn more, for what is deferred. */
	timer_init(&t, loop, (void (*)(void *))loop_stop, loop);
	timer_start(&t, 0);
	loop_run(loop);
	timer_done(&t);
	loop_free(loop);
}

/* What one statement gave. */
struct answer {
	bool done;
	int rows;
	int64_t affected, value;
	char text[64];
	struct err err;
};

static void
on_answer(const struct db_result *res, const struct err *err, void *arg)
{
	struct answer *a = arg;
	const char *s;

	assert_false(a->done);
	a->done = true;
	if (err != NULL)
		a->err = *err;
	if (res != NULL) {
		a->rows = db_rows(res);
		a->affected = db_affected(res);
		a->value = db_i64(res, 0, "v");
		if ((s = db_str(res, 0, "s")) != NULL)
			str_copy(a->text, sizeof(a->text), s);
	}
	loop_stop(loop);
}

static void
wait_for(const bool *done)
{
	int64_t end = time_now_ms() + 20000;

	while (!*done && time_now_ms() < end)
		loop_run(loop);
	assert_true(*done);
}

static struct answer
ask(const struct db_stmt *stmt, const struct db_params *params)
{
	struct answer a = { 0 };

	db_exec(db, stmt, params, 0, on_answer, &a);
	assert_false(a.done); /* never inside the call */
	wait_for(&a.done);
	return a;
}

static void
must(const char *sql)
{
	struct db_stmt stmt = { sql, sql, 0 };
	_cleanup_(freep)
	char *name = xasprintf("s%p", (const void *)sql);
	struct answer a;

	stmt.name = name;
	a = ask(&stmt, NULL);
	if (err_is_set(&a.err))
		fail_msg("%s: %s", sql, a.err.msg);
	/* the name is ours only during the call */
}

static int
setup(void **state)
{
	if (!pg_make(&pg))
		pg.dir[0] = '\0';
	return 0;
}

static int
teardown(void **state)
{
	pg_free(&pg);
	return 0;
}

#define NEEDS_PG()                     \
	do {                           \
		if (pg.dir[0] == '\0') \
			skip();        \
	} while (0)

static void
test_statements(void **state)
{
	static const struct db_stmt add = { "add",
		"SELECT $1::bigint + $2 AS v, $3::text AS s, $4::boolean AS b",
		4 };
	static const struct db_stmt bad = { "bad", "SELECT nothing", 0 };
	struct db_params p = { 0 };
	struct answer a;
	int i;

	NEEDS_PG();
	open_db(1);
	db_param_i64(&p, 40);
	db_param_i64(&p, -2);
	db_param_str(&p, "caf\xc3\xa9");
	db_param_bool(&p, true);
	/* Given before it is connected: waits, with its own copy. */
	a = ask(&add, &p);
	assert_false(err_is_set(&a.err));
	assert_int_equal(a.value, 38);
	assert_string_equal(a.text, "caf\xc3\xa9");
	assert_true(db_is_up(db));
	p.v[2] = NULL;
	a = ask(&add, &p);
	assert_string_equal(a.text, "");
	/* A mistake fails alone, each time it is made. */
	for (i = 0; i < 3; i++) {
		a = ask(&bad, NULL);
		assert_int_equal(a.err.code, ERR_INTERNAL);
		a = ask(&add, &p);
		assert_int_equal(a.value, 38);
	}
	close_db();
}

struct thing {
	int64_t id;
	int32_t small;
	bool flag;
	const char *name;
	const char *json;
	int64_t at;
	int64_t none;
	int64_t absent;
};

static const struct field thing_fields[] = { FIELD(struct thing, id, I64),
	FIELD(struct thing, small, I32), FIELD(struct thing, flag, BOOL),
	FIELD(struct thing, name, STR), FIELD(struct thing, json, JSON),
	FIELD(struct thing, at, TIME), FIELD(struct thing, none, I64),
	FIELD(struct thing, absent, I64), FIELD_END };

static void
on_thing(const struct db_result *res, const struct err *err, void *arg)
{
	struct arena *arena = arena_new(4096), *tiny = arena_new(4);
	struct thing t = { .none = 5, .absent = 6 };
	struct err e;
	char text[TIME_TEXT_MAX];

	assert_non_null(res);
	if (db_row_decode(res, 0, thing_fields, &t, arena, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(t.id, 1099511627776);
	assert_int_equal(t.small, -7);
	assert_true(t.flag);
	assert_string_equal(t.name, "n");
	assert_string_equal(t.json, "{\"a\": 1}");
	assert_string_equal(
	    time_format(text, t.at), "2026-01-02T03:04:05.678Z");
	assert_int_equal(t.none, 0);
	assert_int_equal(t.absent, 6);
	assert_int_equal(
	    db_row_decode(res, 1, thing_fields, &t, arena, &e), -ERR_INTERNAL);
	assert_int_equal(
	    db_row_decode(res, 0, thing_fields, &t, tiny, &e), -ERR_TOO_LARGE);
	assert_null(db_str(res, 9, "id"));
	assert_null(db_str(res, 0, "no such column"));
	arena_free(arena);
	arena_free(tiny);
	*(bool *)arg = true;
	loop_stop(loop);
}

static void
test_rows(void **state)
{
	static const struct db_stmt stmt = { "thing",
		"SELECT 1099511627776 AS id, -7 AS small, true AS flag, "
		"'n'::text AS name, '{\"a\": 1}'::jsonb AS json, "
		"'2026-01-02 04:04:05.678+01'::timestamptz AS at, "
		"NULL::bigint AS none "
		"UNION ALL SELECT 1, 9999999999, true, 'n', '1', now(), 1",
		0 };
	bool done = false;

	NEEDS_PG();
	open_db(0);
	must("SET timezone = 'UTC'");
	db_exec(db, &stmt, NULL, 0, on_thing, &done);
	wait_for(&done);
	close_db();
}

static void
test_violations(void **state)
{
	static const struct db_stmt insert = { "insert",
		"INSERT INTO v (id, other) VALUES ($1, $2)", 2 };
	struct db_params p = { 0 };
	struct answer a;

	NEEDS_PG();
	open_db(0);
	must("CREATE TABLE v (id integer CONSTRAINT v_one UNIQUE "
	     "CONSTRAINT v_small CHECK (id < 100), "
	     "other integer CONSTRAINT v_ref REFERENCES v (id))");
	db_param_i64(&p, 1);
	db_param_null(&p);
	a = ask(&insert, &p);
	assert_false(err_is_set(&a.err));
	assert_int_equal(a.affected, 1);
	a = ask(&insert, &p);
	assert_true(db_violates(&a.err, "v_one"));
	assert_true(db_violates(&a.err, NULL));
	assert_false(db_violates(&a.err, "v_small"));
	assert_int_equal(a.err.code, ERR_CONFLICT);
	p.n = 0;
	db_param_i64(&p, 100);
	db_param_null(&p);
	a = ask(&insert, &p);
	assert_true(db_violates(&a.err, "v_small"));
	p.n = 0;
	db_param_i64(&p, 2);
	db_param_i64(&p, 3);
	a = ask(&insert, &p);
	assert_true(db_violates(&a.err, "v_ref"));
	assert_false(db_violates(NULL, NULL));
	p.n = 0;
	db_param_str(&p, "x");
	db_param_null(&p);
	a = ask(&insert, &p);
	assert_int_equal(a.err.code, ERR_PARAMETER);
	close_db();
}

/* Transactions */

struct txn_test {
	bool begun, done;
	struct db_txn *txn;
	struct err err;
};

static void
on_begun(struct db_txn *txn, const struct err *err, void *arg)
{
	struct txn_test *t = arg;

	t->begun = true;
	t->txn = txn;
	if (err != NULL)
		t->err = *err;
	loop_stop(loop);
}

static void
on_committed(const struct db_result *res, const struct err *err, void *arg)
{
	struct txn_test *t = arg;

	assert_null(res);
	t->done = true;
	if (err != NULL)
		t->err = *err;
	loop_stop(loop);
}

static void
ignore(const struct db_result *res, const struct err *err, void *arg)
{
}

static void
never(const struct db_result *res, const struct err *err, void *arg)
{
	fail_msg("called after the end");
}

static const struct db_stmt t_insert = { "t_insert",
	"INSERT INTO t (id) VALUES ($1)", 1 };
static const struct db_stmt t_count = { "t_count",
	"SELECT count(*) AS v, count(DISTINCT id)::text AS s FROM t", 0 };

static void
test_transactions(void **state)
{
	struct txn_test a = { 0 }, b = { 0 }, c = { 0 };
	struct db_params p = { 0 };

	NEEDS_PG();
	open_db(1);
	must("DROP TABLE IF EXISTS t");
	must("CREATE TABLE t (id integer PRIMARY KEY)");
	db_param_i64(&p, 1);
	db_begin(db, 0, on_begun, &a);
	db_begin(db, 0, on_begun, &b); /* waits for the only connection */
	wait_for(&a.begun);
	assert_non_null(a.txn);
	db_txn_exec(a.txn, &t_insert, &p, ignore, NULL);
	db_commit(a.txn, on_committed, &a);
	wait_for(&a.done);
	assert_false(err_is_set(&a.err));
	wait_for(&b.begun);

	/* The second fails at its first statement; the commit says so. */
	db_txn_exec(b.txn, &t_insert, &p, ignore, NULL);
	p.n = 0;
	db_param_i64(&p, 2);
	db_txn_exec(b.txn, &t_insert, &p, ignore, NULL);
	db_commit(b.txn, on_committed, &b);
	wait_for(&b.done);
	assert_true(db_violates(&b.err, "t_pkey"));
	assert_int_equal(ask(&t_count, NULL).value, 1);

	/* The third is rolled back with a statement under way. */
	db_begin(db, 0, on_begun, &c);
	wait_for(&c.begun);
	db_txn_exec(c.txn, &t_insert, &p, never, NULL);
	db_rollback(c.txn);
	c.begun = false;
	db_begin(db, 0, on_begun, &c);
	wait_for(&c.begun);
	db_rollback(c.txn);
	assert_int_equal(ask(&t_count, NULL).value, 1);
	close_db();
}

static void
test_forget(void **state)
{
	static const struct db_stmt slow = { "slow", "SELECT pg_sleep(0.05)",
		0 };
	struct txn_test a = { 0 };
	int x;

	NEEDS_PG();
	open_db(1);
	must("SELECT 1");
	db_exec(db, &slow, NULL, 0, never, &x);
	db_begin(db, 0, on_begun, &a);
	db_begin(db, 0, on_begun, &x);
	db_forget(db, &x);
	must("SELECT 1");
	wait_for(&a.begun);
	db_forget(db, &a);
	db_rollback(a.txn);
	/* One whose BEGIN is under way is rolled back by itself. */
	a = (struct txn_test){ 0 };
	db_begin(db, 0, on_begun, &a);
	db_forget(db, &a);
	must("SELECT 1");
	assert_false(a.begun);
	close_db();
}

static void
test_notify(void **state)
{
	static const struct db_stmt notify = { "notify",
		"SELECT pg_notify('news', $1)", 1 };
	struct db_params p = { 0 };

	NEEDS_PG();
	open_db(0);
	notified = 0;
	db_param_str(&p, "vm 12");
	db_exec(db, &notify, &p, 0, ignore, NULL);
	while (notified == 0)
		loop_run(loop);
	assert_string_equal(last_payload, "vm 12");
	/* A channel that is known only later. */
	db_listen(db, "more");
	db_listen(db, "more");
	must("NOTIFY more, 'x'");
	while (notified == 1)
		loop_run(loop);
	assert_string_equal(last_payload, "x");
	assert_int_equal(notified, 2);
	close_db();
}

/* A lock that is held: the statement ends by its deadline, and those after
 * it go on over a new connection. */
static void
test_deadline(void **state)
{
	static const struct db_stmt lock = { "lock",
		"LOCK TABLE t IN ACCESS EXCLUSIVE MODE", 0 };
	struct txn_test a = { 0 };
	struct answer r = { 0 };
	int64_t start;

	NEEDS_PG();
	open_db(1);
	must("CREATE TABLE IF NOT EXISTS t (id integer PRIMARY KEY)");
	db_begin(db, 0, on_begun, &a);
	wait_for(&a.begun);
	db_txn_exec(a.txn, &lock, NULL, ignore, NULL);
	must("SELECT pg_sleep(0.05)");
	start = time_now_ms();
	db_exec(db, &t_count, NULL, 200, on_answer, &r);
	wait_for(&r.done);
	assert_int_equal(r.err.code, ERR_DATABASE);
	assert_true(time_now_ms() - start < 2000);
	db_rollback(a.txn);
	assert_int_equal(ask(&t_count, NULL).err.code, ERR_NONE);
	close_db();
}

static void
test_down(void **state)
{
	struct answer r = { 0 }, later = { 0 };
	struct txn_test a = { 0 };

	NEEDS_PG();
	pg_stop(&pg);
	open_db(1);
	downs = ups = 0;
	db_exec(db, &t_count, NULL, 100, on_answer, &r);
	db_begin(db, 100, on_begun, &a);
	db_exec(db, &t_count, NULL, 15000, on_answer, &later);
	wait_for(&r.done);
	assert_int_equal(r.err.code, ERR_DATABASE);
	assert_non_null(strstr(r.err.msg, "can't be reached: "));
	wait_for(&a.begun);
	assert_null(a.txn);
	assert_int_equal(a.err.code, ERR_DATABASE);
	assert_int_equal(downs, 1);
	assert_int_equal(pg_start(&pg), 0);
	wait_for(&later.done);
	assert_false(err_is_set(&later.err));
	assert_int_equal(ups, 1);
	close_db();
}

/*
 * Load: writers that each insert numbers one after the other, by single
 * statement or by transaction. A failed write is asked about before it is
 * tried again, as the contract says; at the end every number is there once.
 * The load lasts until the server has been killed three times.
 */
#define WRITERS 16

static pid_t killer;
static int killer_status;

static bool
killer_ended(void)
{
	if (killer != 0 && waitpid(killer, &killer_status, WNOHANG) == killer)
		killer = 0;
	return killer == 0;
}

struct writer {
	int id, next;
	bool by_txn;
	struct db_txn *txn;
	int *left;
	int failures;
};

static void write_next(struct writer *w);

static const struct db_stmt t_has = { "t_has",
	"SELECT count(*) AS v FROM t WHERE id = $1", 1 };

static void
on_has(const struct db_result *res, const struct err *err, void *arg)
{
	struct writer *w = arg;

	if (res != NULL && db_i64(res, 0, "v") == 1)
		w->next++;
	write_next(w);
}

static void
check(struct writer *w)
{
	struct db_params p = { 0 };

	db_param_i64(&p, w->id * 1000000 + w->next);
	db_exec(db, &t_has, &p, 0, on_has, w);
}

static void
on_written(const struct db_result *res, const struct err *err, void *arg)
{
	struct writer *w = arg;

	if (err != NULL) {
		w->failures++;
		check(w);
		return;
	}
	w->next++;
	write_next(w);
}

static void
on_writer_begun(struct db_txn *txn, const struct err *err, void *arg)
{
	struct writer *w = arg;
	struct db_params p = { 0 };

	if (err != NULL) {
		w->failures++;
		check(w);
		return;
	}
	db_param_i64(&p, w->id * 1000000 + w->next);
	db_txn_exec(txn, &t_insert, &p, ignore, NULL);
	db_commit(txn, on_written, w);
}

static void
write_next(struct writer *w)
{
	struct db_params p = { 0 };

	if (killer_ended()) {
		if (--*w->left == 0)
			loop_stop(loop);
		return;
	}
	db_param_i64(&p, w->id * 1000000 + w->next);
	if (w->by_txn)
		db_begin(db, 0, on_writer_begun, w);
	else
		db_exec(db, &t_insert, &p, 0, on_written, w);
}

/* Kills and restarts the server beside the loop, three times. */
static void
start_killer(void)
{
	char c;
	int i;

	killer = fork();
	if (killer != 0)
		return;
	for (i = 0; i < 3; i++) {
		if (read(up_pipe[0], &c, 1) != 1)
			_exit(1);
		usleep(100 * 1000);
		pg_kill(&pg);
		/* Its last children must have let go of the memory. */
		while (pg_start(&pg) != 0)
			usleep(20 * 1000);
	}
	_exit(0);
}

static void
test_killed_under_load(void **state)
{
	struct writer writers[WRITERS];
	_cleanup_(freep)
	char *total = NULL;
	struct answer a;
	int i, left = WRITERS, failures = 0, numbers = 0;

	NEEDS_PG();
	assert_int_equal(pipe(up_pipe), 0);
	open_db(4);
	must("DROP TABLE IF EXISTS t");
	must("CREATE TABLE t (id integer)");
	ups = downs = 0;
	start_killer();
	for (i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){
			.id = i, .left = &left, .by_txn = i % 2 == 0
		};
		write_next(&writers[i]);
	}
	while (left > 0)
		loop_run(loop);
	assert_int_equal(killer_status, 0);
	for (i = 0; i < WRITERS; i++) {
		failures += writers[i].failures;
		numbers += writers[i].next;
	}
	a = ask(&t_count, NULL);
	print_message("# %d written, %d times up, %d down, %d failed\n",
	    numbers, ups, downs, failures);
	total = xasprintf("%d", numbers);
	assert_int_equal(a.value, numbers);
	assert_string_equal(a.text, total);
	assert_int_equal(downs, 3);
	assert_int_equal(ups, 3);
	closep(&up_pipe[0]);
	closep(&up_pipe[1]);
	close_db();
}

/* Everything is freed while statements and transactions are under way. */
static void
test_free_while_busy(void **state)
{
	struct txn_test a = { 0 };
	int i;

	NEEDS_PG();
	open_db(2);
	must("SELECT 1");
	db_begin(db, 0, on_begun, &a);
	wait_for(&a.begun);
	db_txn_exec(a.txn, &t_count, NULL, never, NULL);
	for (i = 0; i < 5; i++) {
		db_exec(db, &t_count, NULL, 0, never, NULL);
		db_begin(db, 0, on_begun, &a);
	}
	close_db();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_statements),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_violations),
		cmocka_unit_test(test_transactions),
		cmocka_unit_test(test_forget),
		cmocka_unit_test(test_notify),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_down),
		cmocka_unit_test(test_killed_under_load),
		cmocka_unit_test(test_free_while_busy),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
