/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <shadow.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"

#define FILE_MAX (4 * 1024 * 1024)

/* Walks a passwd or group file. */
static int
db_open(const char *etc, const char *name, FILE **ret, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", etc, name);

	*ret = fopen(path, "re");
	if (*ret == NULL)
		return err_errno(
		    err, ERR_IMAGE, errno, "the image has no usable %s", path);
	return 0;
}

static void
account_fill(struct user_account *a, const struct passwd *pw)
{
	*a = (struct user_account){ .uid = pw->pw_uid, .gid = pw->pw_gid };
	str_copy(a->name, sizeof(a->name), pw->pw_name);
	str_copy(a->home, sizeof(a->home), pw->pw_dir);
	str_copy(a->shell, sizeof(a->shell), pw->pw_shell);
}

static int
check_owner(
    const struct passwd *pw, const struct request_user *want, struct err *err)
{
	bool same_name = str_eq(pw->pw_name, want->name);
	bool same_uid = pw->pw_uid == (uid_t)want->uid;

	if (same_name && !same_uid)
		return err_set(err, ERR_CONFLICT,
		    "the image already has a user '%s' with uid %u, not %d: "
		    "rename one of them, or give the user that uid",
		    want->name, (unsigned)pw->pw_uid, (int)want->uid);
	if (same_uid && !same_name)
		return err_set(err, ERR_CONFLICT,
		    "the image already has a user '%.64s' with uid %d: give "
		    "'%s' another uid",
		    pw->pw_name, (int)want->uid, want->name);
	return same_name;
}

static int
find_groups(const char *etc, struct user_account *a, struct err *err)
{
	_cleanup_(fclosep)
	FILE *f = NULL;
	const struct group *gr;
	char **m;
	int r = db_open(etc, "group", &f, err);

	if (r < 0)
		return r;
	a->groups[a->n_groups++] = a->gid;
	while ((gr = fgetgrent(f)) != NULL) {
		for (m = gr->gr_mem; *m != NULL && !str_eq(*m, a->name); m++)
			;
		if (*m != NULL && gr->gr_gid != a->gid && gr->gr_gid != 0 &&
		    a->n_groups < USER_GROUPS_MAX)
			a->groups[a->n_groups++] = gr->gr_gid;
	}
	return 0;
}

int
user_find(const char *etc, const struct request_user *want,
    struct user_account *ret, struct err *err)
{
	_cleanup_(fclosep)
	FILE *f = NULL;
	const struct passwd *pw;
	bool found = false;
	int r = db_open(etc, "passwd", &f, err);

	if (r < 0)
		return r;
	while ((pw = fgetpwent(f)) != NULL) {
		if ((r = check_owner(pw, want, err)) < 0)
			return r;
		if (r > 0 && !found) {
			account_fill(ret, pw);
			found = true;
		}
	}
	if (!found)
		return 0;
	if ((r = find_groups(etc, ret, err)) < 0)
		return r;
	return 1;
}

/* The whole file, which ends with a line's end. */
static int
db_read(const char *etc, const char *name, struct buf *out, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", etc, name);
	_cleanup_(freep)
	char *text = NULL;
	size_t len;
	int r = fs_read_file(path, FILE_MAX, &text, &len, err);

	if (r < 0)
		return r;
	if (!buf_append(out, text, len) ||
	    (len > 0 && text[len - 1] != '\n' && !buf_append(out, "\n", 1)))
		return err_set(err, ERR_TOO_LARGE, "'%s' is too long", path);
	return 0;
}

/* Replaces the file, keeping mode and owner. */
static int
db_write(
    const char *etc, const char *name, const struct buf *in, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", etc, name);
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "look at '%s'", path);
	r = fs_write_file(
	    path, buf_head(in), buf_len(in), st.st_mode & 0777, err);
	if (r == 0 && (st.st_uid != geteuid() || st.st_gid != getegid()) &&
	    chown(path, st.st_uid, st.st_gid) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "own '%s'", path);
	return r;
}

static int
db_append(const char *etc, const char *name, const char *line, struct err *err)
{
	struct buf text;
	int r;

	buf_init(&text, FILE_MAX);
	r = db_read(etc, name, &text, err);
	if (r == 0 && !buf_printf(&text, "%s\n", line))
		r = err_set(
		    err, ERR_TOO_LARGE, "'%s/%s' is too long", etc, name);
	if (r == 0)
		r = db_write(etc, name, &text, err);
	buf_done_secret(&text);
	return r;
}

/* The group's id by name (1), or whether a gid is taken (name NULL). */
static int
group_find(const char *etc, const char *name, gid_t *gid, struct err *err)
{
	_cleanup_(fclosep)
	FILE *f = NULL;
	const struct group *gr;
	int r = db_open(etc, "group", &f, err);

	if (r < 0)
		return r;
	while ((gr = fgetgrent(f)) != NULL) {
		if (name == NULL ? gr->gr_gid == *gid
				 : str_eq(gr->gr_name, name)) {
			*gid = gr->gr_gid;
			return 1;
		}
	}
	return 0;
}

/* The user's main group: the one of that name, else a new one. */
static int
group_ensure(const char *etc, const struct request_user *want, gid_t *ret_gid,
    struct err *err)
{
	const char *name = want->group == NULL ? want->name : want->group;
	_cleanup_(freep)
	char *line = NULL;
	_cleanup_(freep)
	char *gshadow = xasprintf("%s/gshadow", etc);
	gid_t gid = (gid_t)(want->gid > 0 ? want->gid : want->uid);
	int r = group_find(etc, name, ret_gid, err);

	if (r < 0)
		return r;
	if (r > 0 && *ret_gid == 0)
		return err_set(err, ERR_FORBIDDEN,
		    "the group '%s' is root's: give the user '%s' another one",
		    name, want->name);
	if (r > 0 && want->gid > 0 && *ret_gid != gid)
		return err_set(err, ERR_CONFLICT,
		    "the image has the group '%s' with gid %u, not %u", name,
		    (unsigned)*ret_gid, (unsigned)gid);
	if (r > 0)
		return 0;
	while ((r = group_find(etc, NULL, &gid, err)) > 0) {
		if (want->gid > 0) { /* somebody's, but asked for by number */
			*ret_gid = gid;
			return 0;
		}
		gid++;
	}
	if (r < 0)
		return r;
	line = xasprintf("%s:x:%u:", name, (unsigned)gid);
	if ((r = db_append(etc, "group", line, err)) < 0)
		return r;
	free(line);
	line = xasprintf("%s:!::", name);
	if (fs_exists(gshadow) &&
	    (r = db_append(etc, "gshadow", line, err)) < 0)
		return r;
	*ret_gid = gid;
	return 0;
}

static bool
shell_usable(const char *path)
{
	return access(path, X_OK) == 0;
}

int
user_add(const char *etc, const struct request_user *want,
    const char *home_base, struct err *err)
{
	_cleanup_(freep)
	char *home = want->home != NULL
			 ? xstrdup(want->home)
			 : xasprintf("%s/%s", home_base, want->name);
	_cleanup_(freep)
	char *shadow = xasprintf("%s/shadow", etc);
	_cleanup_(freep)
	char *line = NULL;
	const char *shell = want->shell != NULL && shell_usable(want->shell)
				? want->shell
			    : shell_usable("/bin/bash") ? "/bin/bash"
							: "/bin/sh";
	bool locked = str_eq(etc, "/etc");
	gid_t gid = 0;
	int r;

	if (locked && lckpwdf() < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "lock the password file of the image");
	r = group_ensure(etc, want, &gid, err);
	if (r == 0 && fs_exists(shadow)) {
		line = xasprintf("%s:*:%lld:0:99999:7:::", want->name,
		    (long long)(time_wall_us() / 1000000 / 86400));
		r = db_append(etc, "shadow", line, err);
		free(line);
		line = NULL;
	}
	/* Last: with this line the user exists. */
	line = xasprintf("%s:x:%d:%u:%s:%s:%s", want->name, (int)want->uid,
	    (unsigned)gid, want->full_name == NULL ? "" : want->full_name, home,
	    shell);
	if (r == 0)
		r = db_append(etc, "passwd", line, err);
	if (locked)
		ulckpwdf();
	return r < 0 ? err_wrap(err, r, "add the user '%s'", want->name) : 0;
}

static bool
wants(const json_t *groups, const char *name)
{
	const json_t *g;
	size_t i;

	json_array_foreach (groups, i, g) {
		if (str_eq(json_string_value(g), name))
			return true;
	}
	return false;
}

static bool
has_member(const char *members, size_t len, const char *name)
{
	const char *end = members + len;

	while (members < end) {
		size_t n = strcspn(members, ",\n");

		if (members + n > end)
			n = (size_t)(end - members);
		if (n == strlen(name) && strncmp(members, name, n) == 0)
			return true;
		members += n + 1;
	}
	return false;
}

/* One line of the group file, with the user added if wanted. */
static bool
join_line(struct buf *out, const char *line, size_t len,
    const struct request_user *want, json_t *groups, bool *changed)
{
	_cleanup_(freep)
	char *name = xstrndup(line, strcspn(line, ":\n"));
	const char *members = memrchr(line, ':', len);
	json_t *g;
	size_t i;

	if (!buf_append(out, line, len))
		return false;
	if (members != NULL && wants(groups, name)) {
		size_t n = len - (size_t)(++members - line);

		if (!has_member(members, n, want->name)) {
			*changed = true;
			if (!buf_printf(
				out, "%s%s", n > 0 ? "," : "", want->name))
				return false;
		}
		json_array_foreach (groups, i, g) {
			if (str_eq(json_string_value(g), name)) {
				json_array_remove(groups, i);
				break;
			}
		}
	}
	return buf_append(out, "\n", 1);
}

static char *
names_of(const json_t *groups)
{
	_cleanup_(freep)
	char *text = NULL;
	const json_t *g;
	size_t i;

	json_array_foreach (groups, i, g) {
		char *more = xasprintf("%s%s%s", text == NULL ? "" : text,
		    text == NULL ? "" : ", ", json_string_value(g));

		free(text);
		text = more;
	}
	return take_ptr(text);
}

static int
join_file(const char *etc, const struct request_user *want, json_t *groups,
    struct err *err)
{
	struct buf in, out;
	bool changed = false, ok = true;
	const char *p, *end;
	int r;

	buf_init(&in, FILE_MAX);
	buf_init(&out, FILE_MAX);
	r = db_read(etc, "group", &in, err);
	p = buf_head(&in);
	end = p + buf_len(&in);
	while (r == 0 && ok && p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));

		ok = join_line(
		    &out, p, (size_t)(nl - p), want, groups, &changed);
		p = nl + 1;
	}
	if (!ok)
		r = err_set(err, ERR_TOO_LARGE, "'%s/group' is too long", etc);
	if (r == 0 && changed)
		r = db_write(etc, "group", &out, err);
	buf_done(&in);
	buf_done(&out);
	return r;
}

int
user_join(const char *etc, const struct request_user *want, char **ret_missing,
    struct err *err)
{
	bool locked = str_eq(etc, "/etc");
	json_t *groups;
	int r;

	*ret_missing = NULL;
	groups = want->groups == NULL
		     ? NULL
		     : json_loads(want->groups, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_array(groups) || json_array_size(groups) == 0) {
		json_decref(groups);
		return 0;
	}
	if (locked && lckpwdf() < 0) {
		json_decref(groups);
		return err_errno(err, ERR_SYSTEM, errno,
		    "lock the password file of the image");
	}
	r = join_file(etc, want, groups, err);
	if (locked)
		ulckpwdf();
	if (r == 0)
		*ret_missing = names_of(groups);
	json_decref(groups);
	return r < 0 ? err_wrap(err, r, "put '%s' into its groups", want->name)
		     : 0;
}
