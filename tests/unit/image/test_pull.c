/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Two stores and a stream between them. Each end is a process of its own, as
 * in life; the test sits in the middle and cuts the stream, changes a byte of
 * it, or kills the pulling end, at any byte.
 */
#include "test_dir.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "image/pull.h"
#include "image/transfer.h"

#define FILES 60
#define NEVER UINT64_MAX

static struct err err;
static char *src, *a, *b; /* a source and two nodes' data */
static struct image_imported v1, v2;

/* What the pulling process tells. */
static struct told {
	int r;
	struct err err;
	struct image_pulled done;
	struct image_imported other; /* what was made beside it */
} * told;

/* What is done to the stream. */
struct evil {
	uint64_t cut, flip, kill; /* after so many bytes */
	uint64_t pause;
	void (*meanwhile)(void); /* in the pause */
};
static const struct evil honest = { NEVER, NEVER, NEVER, NEVER, NULL };

static void
put(const char *name, const char *text, size_t repeat)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", src, name);
	FILE *f = fopen(path, "w");
	size_t i;

	assert_non_null(f);
	for (i = 0; i < repeat; i++)
		fprintf(f, "%s %zu\n", text, i * i * 7919);
	fclose(f);
}

static void
remove_file(const char *name)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", src, name);

	assert_int_equal(unlink(path), 0);
}

static void
import_to(const char *data, int64_t id, struct image_imported *ret)
{
	const struct image_import how = { .data_dir = data,
		.image_id = id,
		.source = src,
		.author = "test",
		.message = "m",
		.version = "1",
		.parent = "",
		.login = "" };

	assert_ok(image_import(&how, ret, &err));
}

static int
make_stores(void **state)
{
	char name[40];
	int i;

	if (test_dir_make(state) < 0)
		return -1;
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	src = xasprintf("%s/src", dir);
	a = xasprintf("%s/a", dir);
	b = xasprintf("%s/b", dir);
	if (geteuid() != 0)
		return 0;
	/* In memory, and gone with us: a disk would be waited for at each of
	 * hundreds of transactions. */
	if (unshare(CLONE_NEWNS) == 0 &&
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
		mount("stores", dir, "tmpfs", 0, "size=64m");
	assert_ok(fs_mkdirs(src, 0755, &err));
	for (i = 0; i < FILES; i++) {
		_cleanup_(freep)
		char *folder = xasprintf("%s/d%d", src, i / 10);

		assert_ok(fs_mkdirs(folder, 0755, &err));
		snprintf(name, sizeof(name), "d%d/f%d", i / 10, i);
		put(name, name, 1000 + (size_t)i);
	}
	import_to(a, 1, &v1);
	put("d3/f33", "changed", 10);
	put("d3/new", "new", 10);
	import_to(a, 2, &v2);
	return 0;
}

static int
remove_stores(void **state)
{
	free(src);
	free(a);
	free(b);
	umount2(dir, MNT_DETACH); /* if it is one */
	return test_dir_remove(state);
}

static void
pull_in_child(int64_t id, const char *checksum, const char *to,
    const char *base, const char *trusted, int fd)
{
	const struct image_pull pull = { .data_dir = to,
		.image_id = id,
		.checksum = checksum,
		.base = base,
		.trusted = trusted,
		.fd = fd };

	told->r = image_pull(&pull, &told->done, &told->err);
}

/* Moves what is there; false: that side has ended. */
static bool
move(int from, int to, uint64_t *at, const struct evil *evil, pid_t puller)
{
	unsigned char c;
	ssize_t n;

	/* A byte at a time where something is to happen, else in pieces. */
	unsigned char buf[4096];
	size_t room = sizeof(buf);
	uint64_t next = evil->cut < evil->flip ? evil->cut : evil->flip;

	next = next < evil->kill ? next : evil->kill;
	next = next < evil->pause || *at >= evil->pause ? next : evil->pause;
	if (next > *at && next - *at < room)
		room = next - *at;
	if (*at == evil->cut)
		return false;
	if (*at == evil->kill)
		kill(puller, SIGKILL);
	if (*at == evil->pause)
		evil->meanwhile();
	if (*at == evil->flip) {
		if (read(from, &c, 1) <= 0)
			return false;
		c ^= 0x10;
		*at += 1;
		return write(to, &c, 1) == 1;
	}
	n = read(from, buf, room);
	if (n <= 0)
		return false;
	*at += (uint64_t)n;
	return send(to, buf, (size_t)n, MSG_NOSIGNAL) == n;
}

/* What the serving end says goes through; how many bytes that were. */
static uint64_t
relay(int server, int client, const struct evil *evil, pid_t puller)
{
	struct pollfd p[2] = { { .fd = server, .events = POLLIN },
		{ .fd = client, .events = POLLIN } };
	uint64_t at = 0, back = 0;
	bool going = true;

	/* A changed bit may be one of a length: then each end waits for the
	 * other, and only the idle limit of minutes would end it. */
	while (going && poll(p, 2, at > evil->flip ? 1000 : 60000) > 0) {
		if (p[1].revents != 0)
			going = move(client, server, &back, &honest, puller);
		if (going && p[0].revents != 0)
			going = move(server, client, &at, evil, puller);
	}
	close(server);
	close(client);
	return at;
}

static uint64_t
pull_with(int64_t id, const char *checksum, const char *to, const char *base,
    const char *trusted, const struct evil *evil)
{
	int s[2], c[2], status;
	pid_t server, puller;
	uint64_t bytes;

	memset(told, 0, sizeof(*told));
	told->r = 1; /* it said nothing */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, c), 0);
	if ((server = fork()) == 0) {
		close(s[0]);
		close(c[0]);
		close(c[1]);
		_exit(image_serve(a, checksum, s[1], &err) < 0);
	}
	if ((puller = fork()) == 0) {
		close(s[0]);
		close(s[1]);
		close(c[0]);
		pull_in_child(id, checksum, to, base, trusted, c[1]);
		_exit(0);
	}
	close(s[1]);
	close(c[1]);
	bytes = relay(s[0], c[0], evil, puller);
	assert_int_equal(waitpid(server, &status, 0), server);
	assert_int_equal(waitpid(puller, &status, 0), puller);
	return bytes;
}

static void
assert_pulled(void)
{
	if (told->r != 0)
		fail_msg("%d: %s", told->r, told->err.msg);
}

static void
an_image_comes_whole_and_only_once(void **state)
{
	uint64_t first, again;

	if (geteuid() != 0)
		skip();
	first = pull_with(1, v1.checksum, b, "", NULL, &honest);
	assert_pulled();
	assert_ok(image_verify(b, v1.checksum, &err));
	assert_ok(image_checkout(b, v1.checksum, &err));
	assert_ok(image_verify(b, v1.checksum, &err));
	assert_true(told->done.objects >= FILES + 6 + 2);
	assert_true(told->done.received == first);
	again = pull_with(1, v1.checksum, b, "", NULL, &honest);
	assert_pulled();
	assert_int_equal(told->done.objects, 0);
	assert_true(again < 100);
}

static void
a_new_version_moves_what_changed(void **state)
{
	uint64_t bytes, whole;
	_cleanup_(freep)
	char *c = xasprintf("%s/whole", dir);

	if (geteuid() != 0)
		skip();
	bytes = pull_with(2, v2.checksum, b, v1.checksum, NULL, &honest);
	assert_pulled();
	assert_ok(image_verify(b, v2.checksum, &err));
	/* Two files, two folders, the commit. */
	assert_int_equal(told->done.objects, 5);
	whole = pull_with(2, v2.checksum, c, "", NULL, &honest);
	assert_pulled();
	assert_true(bytes * 20 < whole);
	assert_ok(fs_remove_tree(c, &err));
}

/* Whatever the byte, the store stays clean, and an honest node mends it. */
static void
evil_bytes_do_no_harm(const char *what, size_t member)
{
	_cleanup_(freep)
	char *c = xasprintf("%s/%s", dir, what);
	uint64_t whole, at;
	struct evil evil;
	int refused = 0;

	whole = pull_with(1, v1.checksum, c, "", NULL, &honest);
	assert_pulled();
	for (at = 0; at < whole; at += whole / 6 + 1) {
		assert_ok(fs_remove_tree(c, &err));
		evil = honest;
		*(uint64_t *)(void *)((char *)&evil + member) = at;
		pull_with(1, v1.checksum, c, "", NULL, &evil);
		if (told->r != 0) {
			refused++;
			assert_true(image_verify(c, v1.checksum, &err) < 0);
			/* With and without what was being written. */
			if (refused % 2 == 0)
				assert_ok(image_tidy(c, &err));
		}
		if (told->r < 0)
			assert_true(told->err.msg[0] != '\0');
		pull_with(1, v1.checksum, c, "", NULL, &honest);
		assert_pulled();
		assert_ok(image_verify(c, v1.checksum, &err));
	}
	/* A bit may be one that says nothing. */
	assert_true(refused >= 5);
	assert_ok(fs_remove_tree(c, &err));
}

static void
a_truncated_stream_is_refused(void **state)
{
	if (geteuid() != 0)
		skip();
	evil_bytes_do_no_harm("cut", offsetof(struct evil, cut));
}

static void
a_changed_byte_is_refused(void **state)
{
	if (geteuid() != 0)
		skip();
	evil_bytes_do_no_harm("flip", offsetof(struct evil, flip));
}

static void
a_killed_pull_goes_on(void **state)
{
	_cleanup_(freep)
	char *c = xasprintf("%s/killed", dir);
	const struct image_gc gc = { .n_gone = 0 };
	struct image_garbage garbage;
	struct evil evil = honest;
	uint64_t whole, rest;

	if (geteuid() != 0)
		skip();
	evil_bytes_do_no_harm("kill", offsetof(struct evil, kill));
	/* Killed at its last byte: all folders are here by then, and what
	 * they need is no garbage. */
	whole = pull_with(1, v1.checksum, c, "", NULL, &honest);
	assert_ok(fs_remove_tree(c, &err));
	evil.kill = whole - 1;
	pull_with(1, v1.checksum, c, "", NULL, &evil);
	assert_int_equal(told->r, 1);
	assert_ok(image_tidy(c, &err));
	assert_ok(image_collect(c, &gc, &garbage, &err));
	assert_int_equal(garbage.objects, 0);
	assert_err(image_checkout(c, v1.checksum, &err), IMAGE, "in part");
	rest = pull_with(1, v1.checksum, c, "", NULL, &honest);
	assert_pulled();
	assert_true(rest < whole);
	assert_true(told->done.objects <= FILES);
	assert_ok(image_verify(c, v1.checksum, &err));
	assert_ok(fs_remove_tree(c, &err));
}

/* The store whose pull stands still, and what happens to it. */
static char *slow;
static int slept;

static ino_t
inode_of(const char *checksum, const char *name)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/images/trees/%s/%s", slow, checksum, name);
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

/* In the middle of a batch of objects, some of which are staged: an import of
 * the same files, and all that clears away. */
static void
work_beside_a_pull(void)
{
	const int64_t gone[] = { 8 };
	const struct image_gc gc = { .gone = gone, .n_gone = 1 };
	struct image_garbage garbage;
	struct image_imported it;

	slept++;
	put("d5/once", "garbage", 10);
	import_to(slow, 8, &it);
	remove_file("d5/once");
	import_to(slow, 9, &it);
	assert_ok(image_checkout(slow, it.checksum, &err));
	assert_ok(image_tidy(slow, &err));
	assert_ok(image_collect(slow, &gc, &garbage, &err));
	assert_int_equal(garbage.images, 1);
	assert_true(garbage.objects > 0);
	assert_ok(image_verify(slow, it.checksum, &err));
	told->other = it;
}

/* Whatever the moment: what came is whole, what was made is whole, and both
 * have the same files. */
static void
a_slow_pull_holds_up_nobody(void **state)
{
	struct evil evil = honest;
	uint64_t whole, at;

	if (geteuid() != 0)
		skip();
	slow = xasprintf("%s/slow", dir);
	whole = pull_with(2, v2.checksum, slow, "", NULL, &honest);
	assert_pulled();
	evil.meanwhile = work_beside_a_pull;
	for (at = 0; at < whole; at += whole / 5) {
		assert_ok(fs_remove_tree(slow, &err));
		evil.pause = at;
		slept = 0;
		pull_with(2, v2.checksum, slow, "", NULL, &evil);
		assert_pulled();
		assert_int_equal(slept, 1);
		assert_ok(image_checkout(slow, v2.checksum, &err));
		assert_ok(image_verify(slow, v2.checksum, &err));
		assert_ok(image_verify(slow, told->other.checksum, &err));
		assert_string_equal(told->other.content, v2.content);
		assert_int_equal(inode_of(v2.checksum, "d3/new"),
		    inode_of(told->other.checksum, "d3/new"));
		assert_int_equal(inode_of(v2.checksum, "d0/f0"),
		    inode_of(told->other.checksum, "d0/f0"));
	}
	assert_ok(fs_remove_tree(slow, &err));
	free(slow);
}

static void
what_is_not_there_is_not_served(void **state)
{
	static const char none[] = "00112233445566778899aabbccddeeff"
				   "00112233445566778899aabbccddeeff";
	_cleanup_(freep)
	char *c = xasprintf("%s/none", dir);

	if (geteuid() != 0)
		skip();
	pull_with(1, none, c, "", NULL, &honest);
	assert_int_equal(told->r, -(int)ERR_IMAGE);
	assert_non_null(strstr(told->err.msg, "other node says"));
	assert_ok(fs_remove_tree(c, &err));
}

static void
only_what_the_farm_signed(void **state)
{
	_cleanup_(freep)
	char *c = xasprintf("%s/signed", dir);
	_cleanup_(wipe_strp)
	char *mine = NULL;
	_cleanup_(wipe_strp)
	char *other = NULL;
	_cleanup_(freep)
	char *mine_public = NULL;
	_cleanup_(freep)
	char *other_public = NULL;
	_cleanup_(freep)
	char *both = NULL;

	if (geteuid() != 0)
		skip();
	assert_ok(image_sign_keys(&mine, &mine_public, &err));
	assert_ok(image_sign_keys(&other, &other_public, &err));
	both = xasprintf("%s%s", other_public, mine_public);
	pull_with(1, v1.checksum, c, "", mine_public, &honest);
	assert_int_equal(told->r, -(int)ERR_IMAGE);
	assert_non_null(strstr(told->err.msg, "not signed"));
	assert_ok(image_store_sign(a, other, v1.checksum, &err));
	pull_with(1, v1.checksum, c, "", mine_public, &honest);
	assert_int_equal(told->r, -(int)ERR_IMAGE);
	assert_non_null(strstr(told->err.msg, "not signed by this farm"));
	/* Not even its commit has come. */
	assert_err(image_verify(c, v1.checksum, &err), IMAGE, "not in this");
	assert_ok(image_store_sign(a, mine, v1.checksum, &err));
	pull_with(1, v1.checksum, c, "", both, &honest);
	assert_pulled();
	assert_ok(
	    image_store_check_signature(c, mine_public, v1.checksum, &err));
	assert_err(
	    image_store_check_signature(c, other_public, v1.checksum, &err),
	    IMAGE, "not signed by this farm");
	assert_err(image_signature_check("", v1.checksum, "", 0, &err), CONFIG,
	    "has none");
	assert_ok(fs_remove_tree(c, &err));
}

/* In a mount namespace of the child's own. */
static int
pull_to_small_disk(const char *c, const char *size)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int s[2];

		if (unshare(CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("small", c, "tmpfs", 0, size) < 0 ||
		    socketpair(AF_UNIX, SOCK_STREAM, 0, s) < 0)
			_exit(77);
		if (fork() == 0) {
			close(s[1]);
			_exit(image_serve(a, v1.checksum, s[0], &err) < 0);
		}
		close(s[0]);
		pull_in_child(1, v1.checksum, c, "", NULL, s[1]);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

static void
a_full_disk_says_so_before(void **state)
{
	_cleanup_(freep)
	char *c = xasprintf("%s/small", dir);

	if (geteuid() != 0)
		skip();
	assert_ok(fs_mkdirs(c, 0755, &err));
	if (pull_to_small_disk(c, "size=600k") == 77)
		skip();
	assert_int_equal(told->r, -(int)ERR_NO_SPACE);
	assert_non_null(strstr(told->err.msg, "files more on this node's"));
	assert_non_null(strstr(told->err.msg, "make room"));
	assert_int_equal(pull_to_small_disk(c, "size=16m"), 0);
	assert_pulled();
}

static void
a_limit_is_kept(void **state)
{
	struct wire w;
	unsigned char bytes[4000] = { 0 };
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	assert_int_equal(write(s[0], bytes, sizeof(bytes)), sizeof(bytes));
	wire_init(&w, s[1], 1000, 100000);
	assert_ok(wire_read(&w, bytes, sizeof(bytes), &err));
	/* No sooner than the limit allows; how much later is the machine's. */
	assert_true(time_now_ms() - w.since_ms >= 39);
	close(s[0]);
	assert_int_equal(wire_at_end(&w, &err), 1);
	close(s[1]);
}

/* Answers by hand. */

struct lie {
	uint8_t kind;
	uint64_t says, has; /* bytes */
	bool damaged;
	enum err_code code;
	const char *part;
};

static const struct lie lies[] = {
	{ WIRE_PLAIN, 100, 101, false, ERR_IMAGE, "after it said 99" },
	{ WIRE_PLAIN, 99, 100, false, ERR_IMAGE, "larger than it says" },
	{ WIRE_PLAIN, 99, 98, false, ERR_IMAGE, "smaller than it says" },
	{ WIRE_PLAIN, 99, 99, true, ERR_IMAGE, "damaged" },
	{ WIRE_PLAIN, 99, 99, false, ERR_IMAGE, "wrong object" },
	{ WIRE_BASED, 99, 99, false, ERR_PROTOCOL, "what it was asked" },
	{ 9, 99, 99, false, ERR_PROTOCOL, "what it was asked" },
	{ WIRE_MISSING, 0, 0, false, ERR_IMAGE, "has no object" },
};

static void
tell_lie(int fd, const struct lie *lie)
{
	char plain[200] = "\0\0\0\x10 nonsense of some length", packed[400];
	struct wire *w = new0(struct wire);
	size_t n;

	wire_init(w, fd, 1000, 0);
	n = ZSTD_compress(packed, sizeof(packed), plain, lie->has, 1);
	assert_false(ZSTD_isError(n));
	if (lie->damaged)
		memset(packed, 0xee, n);
	assert_ok(wire_write_number(w, lie->kind, 1, &err));
	assert_ok(wire_write_number(w, lie->says, 8, &err));
	assert_ok(wire_write(w, packed, n, &err));
	assert_ok(wire_flush(w, &err));
	shutdown(fd, SHUT_WR);
	free(w);
}

static void
a_node_that_lies_is_refused(void **state)
{
	static const int types[] = { OSTREE_OBJECT_TYPE_FILE,
		OSTREE_OBJECT_TYPE_DIR_TREE };
	const struct image_pull args = { .data_dir = b };
	size_t i;
	int s[2];

	if (geteuid() != 0)
		skip();
	for (i = 0; i < 2 * ARRAY_SIZE(lies); i++) {
		const struct lie *lie = &lies[i / 2];
		struct transfer_want want = { .type = types[i % 2],
			.size = lie->kind == WIRE_MISSING ? WIRE_NONE : 99 };
		struct pull *p = new0(struct pull);

		p->args = &args;
		p->zstd = ZSTD_createDCtx();
		memset(want.sum, '7', IMAGE_CHECKSUM_LEN);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
		wire_init(&p->wire, s[0], 1000, 0);
		tell_lie(s[1], lie);
		assert_ok(image_repo_open(b, &p->repo, &err));
		err = (struct err){ 0 };
		assert_int_equal(pull_get(p, &want, 1, &err), -(int)lie->code);
		/* libostree looks at a file's head first. */
		if (i % 2 == 1 && strstr(err.msg, lie->part) == NULL)
			fail_msg("'%s' isn't in '%s'", lie->part, err.msg);
		g_object_unref(p->repo);
		ZSTD_freeDCtx(p->zstd);
		close(s[0]);
		close(s[1]);
		free(p);
	}
	assert_ok(image_verify(b, v1.checksum, &err));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_image_comes_whole_and_only_once),
		cmocka_unit_test(a_new_version_moves_what_changed),
		cmocka_unit_test(a_truncated_stream_is_refused),
		cmocka_unit_test(a_changed_byte_is_refused),
		cmocka_unit_test(a_killed_pull_goes_on),
		cmocka_unit_test(a_slow_pull_holds_up_nobody),
		cmocka_unit_test(what_is_not_there_is_not_served),
		cmocka_unit_test(only_what_the_farm_signed),
		cmocka_unit_test(a_full_disk_says_so_before),
		cmocka_unit_test(a_limit_is_kept),
		cmocka_unit_test(a_node_that_lies_is_refused),
	};

	return cmocka_run_group_tests(tests, make_stores, remove_stores);
}
