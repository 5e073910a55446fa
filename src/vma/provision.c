/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/provision.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "vma/home.h"

struct order {
	int32_t steps;
	const char *home, *device, *fs, *runtime;
	const char *name, *group, *groups, *full_name, *user_home, *shell;
	int32_t uid, gid;
};

static const struct field order_fields[] = { FIELD(struct order, steps, I32,
						 .flags = FIELD_REQUIRED),
	FIELD(struct order, home, STR, .flags = FIELD_REQUIRED),
	FIELD(struct order, device, STR), FIELD(struct order, fs, STR),
	FIELD(struct order, runtime, STR, .flags = FIELD_REQUIRED),
	FIELD(struct order, name, STR, .flags = FIELD_REQUIRED),
	FIELD(struct order, uid, I32, .flags = FIELD_REQUIRED),
	FIELD(struct order, gid, I32), FIELD(struct order, group, STR),
	FIELD(struct order, groups, JSON), FIELD(struct order, full_name, STR),
	FIELD(struct order, user_home, STR), FIELD(struct order, shell, STR),
	FIELD_END };

static void
say(json_t *obj)
{
	_cleanup_(freep)
	char *text = json_text(obj);

	printf("%s\n", text);
	fflush(stdout);
	json_decref(obj);
}

json_t *
account_encode(const struct user_account *a)
{
	json_t *groups = json_array();
	int i;

	for (i = 0; i < a->n_groups; i++)
		json_array_append_new(groups, json_integer(a->groups[i]));
	return json_pack("{s:s, s:I, s:I, s:s, s:s, s:o}", "name", a->name,
	    "uid", (json_int_t)a->uid, "gid", (json_int_t)a->gid, "home",
	    a->home, "shell", a->shell, "groups", groups);
}

int
account_decode(const json_t *obj, struct user_account *ret, struct err *err)
{
	struct user_account a = { 0 };
	const json_t *groups = json_object_get(obj, "groups"), *g;
	int64_t uid = json_get_int(obj, "uid", 0);
	int64_t gid = json_get_int(obj, "gid", 0);
	size_t i;

	json_array_foreach (groups, i, g) {
		if (a.n_groups < USER_GROUPS_MAX && json_integer_value(g) > 0)
			a.groups[a.n_groups++] = (gid_t)json_integer_value(g);
	}
	if (uid <= 0 || uid > UINT32_MAX - 1 || gid <= 0 ||
	    gid > UINT32_MAX - 1 ||
	    !str_copy(a.name, sizeof(a.name), json_get_str(obj, "name", "")) ||
	    !str_copy(a.home, sizeof(a.home), json_get_str(obj, "home", "")) ||
	    !str_copy(
		a.shell, sizeof(a.shell), json_get_str(obj, "shell", "")) ||
	    a.name[0] == '\0' || a.home[0] != '/')
		return err_set(err, ERR_IMAGE,
		    "the image's entry of the user is unusable: it needs a "
		    "name, a uid and gid other than root's, and a home");
	a.uid = (uid_t)uid;
	a.gid = (gid_t)gid;
	*ret = a;
	return 0;
}

/* A line of the output of "getent passwd NAME", for images whose users come
 * from a directory service. 1: found. */
static int
read_getent(const char *name, char *line, size_t size)
{
	static const char program[] = "/usr/bin/getent";
	int fds[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (access(program, X_OK) < 0 || pipe2(fds, O_CLOEXEC) < 0)
		return 0;
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		execl(program, program, "passwd", name, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	while (pid > 0 && len < size - 1 &&
	       (n = read(fds[0], line + len, size - 1 - len)) > 0)
		len += (size_t)n;
	line[len] = '\0';
	close(fds[0]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid > 0 && status == 0 && len > 0;
}

static int
find_by_service(
    const struct request_user *want, struct user_account *ret, struct err *err)
{
	char line[2048];
	_cleanup_(fclosep)
	FILE *f = NULL;
	const struct passwd *pw;

	if (!read_getent(want->name, line, sizeof(line)))
		return 0;
	f = fmemopen(line, strlen(line), "r");
	pw = f == NULL ? NULL : fgetpwent(f);
	if (pw == NULL || !str_eq(pw->pw_name, want->name))
		return 0;
	if (pw->pw_uid != (uid_t)want->uid || pw->pw_uid == 0)
		return err_set(err, ERR_CONFLICT,
		    "the image's directory service knows the user '%s' with "
		    "uid %u, not %d: give the user that uid",
		    want->name, (unsigned)pw->pw_uid, (int)want->uid);
	*ret = (struct user_account){ .uid = pw->pw_uid, .gid = pw->pw_gid };
	str_copy(ret->name, sizeof(ret->name), pw->pw_name);
	str_copy(ret->home, sizeof(ret->home), pw->pw_dir);
	str_copy(ret->shell, sizeof(ret->shell), pw->pw_shell);
	ret->groups[ret->n_groups++] = ret->gid;
	return 1;
}

static int
find(const struct request_user *want, struct user_account *ret, struct err *err)
{
	int r = user_find("/etc", want, ret, err);

	return r != 0 ? r : find_by_service(want, ret, err);
}

/* A directory of the user's under one of root's. */
static int
user_dir(const char *base, const struct user_account *a, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%u", base, (unsigned)a->uid);
	_cleanup_(closep)
	int fd = -1;
	int r = fs_mkdirs(base, 0755, err);

	if (r < 0)
		return r;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_errno(err, ERR_SYSTEM, errno, "make '%s'", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchown(fd, a->uid, a->gid) < 0 || fchmod(fd, 0700) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "own '%s'", path);
	return 0;
}

static int
make(const struct order *o, const struct request_user *want,
    struct user_account *a, bool *created, struct err *err)
{
	_cleanup_(freep)
	char *missing = NULL;
	int r = find(want, a, err);

	if (r < 0)
		return r;
	*created = r == 0;
	if (r == 0 && ((r = user_add("/etc", want, o->home, err)) < 0 ||
			  (r = user_find("/etc", want, a, err)) < 0))
		return r;
	if ((r = user_join("/etc", want, &missing, err)) < 0)
		return r;
	if (missing != NULL)
		log_warn("the image lacks groups of '%s', left out: %s",
		    want->name, missing);
	if (want->groups != NULL && user_find("/etc", want, a, err) < 0)
		return -(int)err->code;
	r = home_make(a, "/etc/skel", err);
	if (r > 0)
		say(json_pack("{s:s}", "info", "A new home was made"));
	if (r < 0 || (r = user_dir(o->runtime, a, err)) < 0 ||
	    (r = user_dir("/run/user", a, err)) < 0)
		return r;
	return 0;
}

static int
provision(const struct order *o, struct err *err)
{
	const struct request_user want = { .name = o->name,
		.uid = o->uid,
		.gid = o->gid,
		.group = o->group,
		.groups = o->groups,
		.full_name = o->full_name,
		.home = o->user_home,
		.shell = o->shell };
	struct user_account account = { 0 };
	bool created = false;
	int r;

	if ((o->steps & PROVISION_MOUNT) != 0) {
		r = home_mount(o->device, o->fs, o->home, err);
	} else if ((o->steps & PROVISION_FIND) != 0) {
		r = find(&want, &account, err);
		if (r == 0) {
			say(json_pack("{s:b}", "unknown", 1));
			return 0;
		}
	} else {
		r = make(o, &want, &account, &created, err);
	}
	if (r < 0)
		return r;
	if ((o->steps & PROVISION_MOUNT) != 0)
		say(json_pack("{s:b}", "mounted", 1));
	else
		say(json_pack("{s:o, s:b}", "account", account_encode(&account),
		    "created", created));
	return 0;
}

static int
read_order(int fd, json_t **ret, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("/proc/self/fd/%d", fd);
	_cleanup_(freep)
	char *text = NULL;
	size_t len;
	int r = fs_read_file(path, 1024 * 1024, &text, &len, err);

	return r < 0 ? r : json_parse(text, len, ret, err);
}

int
provision_main(void)
{
	_cleanup_(arena_freep)
	struct arena *arena = arena_new(1024 * 1024);
	struct order order = { 0 };
	struct err err = { 0 };
	json_t *root = NULL;
	int r;

	log_init("vma/provision");
	umask(022);
	if ((r = read_order(STDIN_FILENO, &root, &err)) == 0 &&
	    (r = json_decode(root, order_fields, &order, arena, NULL, &err)) ==
		0)
		r = provision(&order, &err);
	json_decref(root);
	if (r < 0)
		say(json_from_err(&err));
	return r < 0;
}
