/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hypervisor/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hypervisor/hv.h"

/* Of groups that a VM makes below its own. */
#define DEPTH_MAX 16

static const char *const part_names[] = {
	[CGROUP_OP] = "op",
	[CGROUP_MON] = "mon",
	[CGROUP_CT] = "ct",
};

/* Reads a small file; false if it can't. */
static bool
read_small(const char *path, char *ret, size_t size)
{
	_cleanup_(closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0 || (n = read(fd, ret, size - 1)) < 0)
		return false;
	while (n > 0 && ret[n - 1] == '\n')
		n--;
	ret[n] = '\0';
	return true;
}

static int
write_small(const char *path, const char *text)
{
	_cleanup_(closep)
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = (ssize_t)strlen(text);

	return fd >= 0 && write(fd, text, (size_t)n) == n ? 0 : -1;
}

/*
 * PID 1's group in the hierarchy, without systemd's init.scope: liblxc counts
 * lxc.cgroup.dir.* from there. key: "cpu" for v1 (one of the list), "" for
 * the unified hierarchy.
 */
static char *
base_of_init(const char *init_cgroup, const char *key)
{
	const char *line = init_cgroup, *list, *path;
	size_t klen = strlen(key);

	for (; line != NULL && *line != '\0';
	     line = strchr(line, '\n'), line += line != NULL) {
		const char *end = line + strcspn(line, "\n"), *p;
		bool match;

		list = memchr(line, ':', (size_t)(end - line));
		path = list == NULL
			   ? NULL
			   : memchr(list + 1, ':', (size_t)(end - list - 1));
		if (path == NULL)
			continue;
		list++;
		match = klen == 0 && list == path;
		for (p = list; klen > 0 && !match && p < path;
		     p += strcspn(p, ",:") + 1)
			match = strncmp(p, key, klen) == 0 &&
				(p[klen] == ',' || p[klen] == ':');
		if (!match)
			continue;
		path++;
		if (end - path >= 11 &&
		    strncmp(end - 11, "/init.scope", 11) == 0)
			end -= 11;
		if (end - path == 1)
			end = path; /* "/" */
		return xstrndup(path, (size_t)(end - path));
	}
	return xstrdup("");
}

/* The first v1 controller among the mount's super options. */
static void
v1_controllers(
    const char *options, char *ret, size_t size, char *first, size_t first_size)
{
	static const char *const known[] = { "cpu", "cpuacct", "cpuset",
		"memory", "devices", "freezer", "blkio", "pids", "hugetlb",
		"net_cls", "net_prio", "perf_event", "rdma", "misc" };
	const char *p = options;

	str_copy(ret, size, ",");
	first[0] = '\0';
	while (*p != '\0') {
		size_t n = strcspn(p, ",\n"), len = strlen(ret), i;

		for (i = 0; i < ARRAY_SIZE(known); i++) {
			if (strlen(known[i]) != n ||
			    strncmp(known[i], p, n) != 0)
				continue;
			snprintf(ret + len, size - len, "%s,", known[i]);
			if (first[0] == '\0')
				str_copy(first, first_size, known[i]);
		}
		if (strncmp(p, "name=", 5) == 0 && first[0] == '\0')
			snprintf(first, first_size, "%.*s", (int)n, p);
		p += n + (p[n] == ',');
	}
}

static void
add_root(struct cgroup *cg, const char *init_cgroup, const char *mount,
    const char *type, const char *options)
{
	struct cgroup_root *root = &cg->roots[cg->n_roots];
	_cleanup_(freep)
	char *base = NULL;
	_cleanup_(freep)
	char *file = NULL;
	char list[512] = ",", first[64] = "";
	char *p;

	root->unified = str_eq(type, "cgroup2");
	if (root->unified) {
		file = xasprintf("%s/cgroup.controllers", mount);
		if (read_small(file, list + 1, sizeof(list) - 2)) {
			for (p = list + 1; *p != '\0'; p++)
				if (*p == ' ')
					*p = ',';
			*p++ = ',';
			*p = '\0';
		}
		cg->unified = cg->n_roots;
	} else {
		v1_controllers(
		    options, list, sizeof(list), first, sizeof(first));
		if (first[0] == '\0')
			return;
	}
	base = base_of_init(init_cgroup, first);
	root->base = xasprintf("%s%s", mount, base);
	root->path = xasprintf("%s/%s", root->base, cg->top);
	root->controllers = xstrdup(list);
	cg->n_roots++;
}

/* "36 35 98:0 /root /mount opts [tags] - type source super-options" */
static void
read_mount_line(struct cgroup *cg, const char *init_cgroup, char *line)
{
	char *fields[5], *p = line, *type, *options;
	int i;

	for (i = 0; i < 5; i++) {
		fields[i] = strsep(&p, " ");
		if (p == NULL)
			return;
	}
	if ((type = strstr(p, " - ")) == NULL)
		return;
	type += 3;
	options = type + strcspn(type, " ");
	if (*options == '\0')
		return;
	*options++ = '\0';
	options += strcspn(options, " ");
	options += *options == ' ';
	if (cg->n_roots < CGROUP_ROOTS_MAX && str_eq(fields[3], "/") &&
	    (str_eq(type, "cgroup") || str_eq(type, "cgroup2")))
		add_root(cg, init_cgroup, fields[4], type, options);
}

int
cgroup_init(struct cgroup *cg, const char *top, struct err *err)
{
	_cleanup_(freep)
	char *mounts = NULL;
	_cleanup_(freep)
	char *init = NULL;
	int r;

	if ((r = fs_read_file(
		 "/proc/self/mountinfo", 8 << 20, &mounts, NULL, err)) < 0 ||
	    (r = fs_read_file("/proc/1/cgroup", 1 << 20, &init, NULL, err)) < 0)
		return r;
	return cgroup_parse(cg, top, mounts, init, err);
}

int
cgroup_parse(struct cgroup *cg, const char *top, const char *mountinfo,
    const char *init_cgroup, struct err *err)
{
	_cleanup_(freep)
	char *copy = xstrdup(mountinfo);
	char *p, *line;

	*cg = (struct cgroup){ .unified = -1 };
	cg->top = xstrdup(top);
	for (p = copy; (line = strsep(&p, "\n")) != NULL;)
		read_mount_line(cg, init_cgroup, line);
	if (cg->unified < 0) {
		cgroup_done(cg);
		return err_set(err, ERR_CONFIG,
		    "no cgroup2 file system is mounted; mount it at "
		    "/sys/fs/cgroup (systemd does so) or, beside v1, at "
		    "/sys/fs/cgroup/unified");
	}
	return 0;
}

void
cgroup_done(struct cgroup *cg)
{
	int i;

	for (i = 0; i < cg->n_roots; i++) {
		free(cg->roots[i].base);
		free(cg->roots[i].path);
		free(cg->roots[i].controllers);
	}
	free(cg->top);
	*cg = (struct cgroup){ .unified = -1 };
}

char *
cgroup_name(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id)
{
	return xasprintf(
	    "%s/%s/%lld", cg->top, part_names[part], (long long)vm_id);
}

static char *
path_of(const struct cgroup_root *root, enum cgroup_part part, int64_t vm_id,
    const char *file)
{
	return xasprintf("%s/%s/%lld%s%s", root->path, part_names[part],
	    (long long)vm_id, file[0] == '\0' ? "" : "/", file);
}

static char *
unified_path(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id,
    const char *file)
{
	return path_of(&cg->roots[cg->unified], part, vm_id, file);
}

int
cgroup_enter_op(const struct cgroup *cg, int64_t vm_id, struct err *err)
{
	_cleanup_(freep)
	char *dir = unified_path(cg, CGROUP_OP, vm_id, "");
	_cleanup_(freep)
	char *procs = unified_path(cg, CGROUP_OP, vm_id, "cgroup.procs");
	int r;

	if ((r = fs_mkdirs(dir, 0755, err)) < 0)
		return r;
	if (write_small(procs, "0") < 0)
		return err_errno(err, ERR_SYSTEM, errno, "enter %s", dir);
	return 0;
}

/* Of v2, a group whose members have controllers has no processes itself; op
 * has none of those. */
int
cgroup_leave(const struct cgroup *cg, struct err *err)
{
	int i;

	for (i = 0; i < cg->n_roots; i++) {
		const struct cgroup_root *root = &cg->roots[i];
		_cleanup_(freep)
		char *file = xasprintf("%s%s%s/cgroup.procs", root->path,
		    root->unified ? "/" : "",
		    root->unified ? part_names[CGROUP_OP] : "");

		/* Where there is no such group liblxc was told not to use the
		 * hierarchy. */
		if (write_small(file, "0") < 0 && errno != ENOENT)
			return err_errno(
			    err, ERR_SYSTEM, errno, "enter %s", file);
	}
	return 0;
}

int
cgroup_limit_depth(
    const struct cgroup *cg, enum cgroup_part part, struct err *err)
{
	_cleanup_(freep)
	char *dir =
	    xasprintf("%s/%s", cg->roots[cg->unified].path, part_names[part]);
	_cleanup_(freep)
	char *file = xasprintf("%s/cgroup.max.depth", dir);
	char depth[16];
	int r;

	if ((r = fs_mkdirs(dir, 0755, err)) < 0)
		return r;
	snprintf(depth, sizeof(depth), "%d", DEPTH_MAX);
	if (write_small(file, depth) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "write %s to %s", depth, file);
	return 0;
}

/* Those that a VM's processes are put into: of v1, one a controller that we
 * use. */
static bool
is_used(const struct cgroup_root *root)
{
	static const char *const used[] = { ",memory,", ",cpu,", ",pids,",
		",freezer,", ",blkio," };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(used) && !root->unified; i++)
		if (strstr(root->controllers, used[i]) != NULL)
			return true;
	return root->unified;
}

/* cgroup v2 gives a group only the controllers that its parents pass on. */
static int
pass_controllers(
    const struct cgroup_root *root, enum cgroup_part part, struct err *err)
{
	static const char *const wanted[] = { "memory", "cpu", "pids", "io" };
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		char key[16], word[16];

		snprintf(key, sizeof(key), ",%s,", wanted[i]);
		snprintf(word, sizeof(word), "+%s", wanted[i]);
		if (strstr(root->controllers, key) == NULL)
			continue;
		for (j = 0; j < 3; j++) {
			_cleanup_(freep)
			char *file = xasprintf("%s%s%s/cgroup.subtree_control",
			    j == 0 ? root->base : root->path, j == 2 ? "/" : "",
			    j == 2 ? part_names[part] : "");

			if (write_small(file, word) < 0)
				return err_errno(err, ERR_SYSTEM, errno,
				    "write %s to %s", word, file);
		}
	}
	return 0;
}

int
cgroup_make(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id,
    struct err *err)
{
	int i, r;

	for (i = 0; i < cg->n_roots; i++) {
		const struct cgroup_root *root = &cg->roots[i];
		_cleanup_(freep)
		char *dir = path_of(root, part, vm_id, "");

		if (!is_used(root))
			continue;
		if ((r = fs_mkdirs(dir, 0755, err)) < 0 ||
		    (root->unified &&
			(r = pass_controllers(root, part, err)) < 0))
			return r;
	}
	return 0;
}

int
cgroup_enter(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id,
    struct err *err)
{
	int i;

	for (i = 0; i < cg->n_roots; i++) {
		_cleanup_(freep)
		char *file =
		    path_of(&cg->roots[i], part, vm_id, "cgroup.procs");

		if (is_used(&cg->roots[i]) && write_small(file, "0") < 0)
			return err_errno(
			    err, ERR_SYSTEM, errno, "enter %s", file);
	}
	return 0;
}

bool
cgroup_exists(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id)
{
	int i;

	for (i = 0; i < cg->n_roots; i++) {
		_cleanup_(freep)
		char *dir = path_of(&cg->roots[i], part, vm_id, "");

		if (fs_exists(dir))
			return true;
	}
	return false;
}

bool
cgroup_populated(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id)
{
	_cleanup_(freep)
	char *file = unified_path(cg, part, vm_id, "cgroup.events");
	char text[256];

	return read_small(file, text, sizeof(text)) &&
	       strstr(text, "populated 1") != NULL;
}

pid_t
cgroup_first_pid(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id)
{
	_cleanup_(freep)
	char *file = unified_path(cg, part, vm_id, "cgroup.procs");
	char text[64];
	int pid;

	if (!read_small(file, text, sizeof(text)))
		return -1;
	text[strcspn(text, "\n")] = '\0';
	return str_to_int(text, 1, INT32_MAX, &pid) ? pid : -1;
}

/* Until cgroup.events says the word; true if the group has gone, and if_gone
 * says that this is as good. */
static bool
wait_event(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id,
    const char *word, bool if_gone, int timeout_ms)
{
	_cleanup_(freep)
	char *file = unified_path(cg, part, vm_id, "cgroup.events");
	int64_t end = time_now_ms() + timeout_ms, left;
	_cleanup_(closep)
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	char text[256];
	ssize_t n;

	if (fd < 0)
		return if_gone;
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };

		n = pread(fd, text, sizeof(text) - 1, 0);
		if (n < 0)
			return if_gone; /* it was removed */
		text[n] = '\0';
		if (strstr(text, word) != NULL)
			return true;
		if ((left = end - time_now_ms()) <= 0)
			return false;
		poll(&p, 1, (int)left);
	}
}

bool
cgroup_wait_empty(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id,
    int timeout_ms)
{
	return wait_event(cg, part, vm_id, "populated 0", true, timeout_ms);
}

int
cgroup_freeze(
    const struct cgroup *cg, int64_t vm_id, bool freeze, struct err *err)
{
	_cleanup_(freep)
	char *file = unified_path(cg, CGROUP_CT, vm_id, "cgroup.freeze");

	if (write_small(file, freeze ? "1" : "0") < 0)
		return err_errno(err, ERR_SYSTEM, errno, "write %s", file);
	return 0;
}

bool
cgroup_is_frozen(const struct cgroup *cg, int64_t vm_id)
{
	_cleanup_(freep)
	char *file = unified_path(cg, CGROUP_CT, vm_id, "cgroup.freeze");
	char text[16];

	/* What was asked for: "frozen" of cgroup.events comes later. */
	return read_small(file, text, sizeof(text)) && str_eq(text, "1");
}

bool
cgroup_wait_frozen(const struct cgroup *cg, int64_t vm_id, int timeout_ms)
{
	return wait_event(cg, CGROUP_CT, vm_id, "frozen 1", false, timeout_ms);
}

/* A process frozen by a v1 freezer can't even be killed. */
static void
thaw(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id)
{
	_cleanup_(freep)
	char *v2 = unified_path(cg, part, vm_id, "cgroup.freeze");
	int i;

	write_small(v2, "0");
	for (i = 0; i < cg->n_roots; i++) {
		_cleanup_(freep)
		char *v1 = NULL;

		if (strstr(cg->roots[i].controllers, ",freezer,") == NULL)
			continue;
		v1 = path_of(&cg->roots[i], part, vm_id, "freezer.state");
		write_small(v1, "THAWED");
	}
}

int
cgroup_kill(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id,
    struct err *err)
{
	_cleanup_(freep)
	char *file = unified_path(cg, part, vm_id, "cgroup.kill");

	thaw(cg, part, vm_id);
	if (write_small(file, "1") < 0 && errno != ENOENT && errno != ENODEV)
		return err_errno(err, ERR_SYSTEM, errno, "write %s", file);
	return 0;
}

/* Removes the group and those below it. */
static int
remove_groups(const char *path, int depth)
{
	struct dirent *e;
	DIR *dir;

	if (rmdir(path) == 0 || errno == ENOENT)
		return 0;
	if (depth == 0 || (dir = opendir(path)) == NULL)
		return -1;
	while ((e = readdir(dir)) != NULL) {
		_cleanup_(freep)
		char *sub = NULL;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		sub = xasprintf("%s/%s", path, e->d_name);
		remove_groups(sub, depth - 1);
	}
	closedir(dir);
	return rmdir(path);
}

int
cgroup_remove(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id,
    bool *ret_removed, struct err *err)
{
	int i, r = 0;

	*ret_removed = false;
	for (i = 0; i < cg->n_roots; i++) {
		_cleanup_(freep)
		char *dir = path_of(&cg->roots[i], part, vm_id, "");

		if (!fs_exists(dir))
			continue;
		if (remove_groups(dir, DEPTH_MAX) == 0)
			*ret_removed = true;
		else if (r == 0)
			r = err_errno(err, ERR_SYSTEM, errno, "remove %s", dir);
	}
	return r;
}

const struct cgroup_root *
cgroup_controller(const struct cgroup *cg, const char *controller)
{
	char key[32];
	int i;

	snprintf(key, sizeof(key), ",%s,", controller);
	for (i = 0; i < cg->n_roots; i++)
		if (strstr(cg->roots[i].controllers, key) != NULL)
			return &cg->roots[i];
	return NULL;
}

bool
cgroup_read(const struct cgroup *cg, const char *controller,
    enum cgroup_part part, int64_t vm_id, const char *file, char *ret,
    size_t size)
{
	const struct cgroup_root *root = cgroup_controller(cg, controller);
	_cleanup_(freep)
	char *path = NULL;

	if (root == NULL)
		return false;
	path = path_of(root, part, vm_id, file);
	return read_small(path, ret, size);
}

bool
cgroup_read_unified(const struct cgroup *cg, int64_t vm_id, const char *file,
    char *ret, size_t size)
{
	_cleanup_(freep)
	char *path = unified_path(cg, CGROUP_CT, vm_id, file);

	return read_small(path, ret, size);
}

bool
cgroup_write_unified(
    const struct cgroup *cg, int64_t vm_id, const char *file, const char *text)
{
	_cleanup_(freep)
	char *path = unified_path(cg, CGROUP_CT, vm_id, file);

	return write_small(path, text) == 0;
}

bool
cgroup_write(const struct cgroup *cg, const char *controller,
    enum cgroup_part part, int64_t vm_id, const char *file, const char *text)
{
	const struct cgroup_root *root = cgroup_controller(cg, controller);
	_cleanup_(freep)
	char *path = NULL;

	if (root == NULL)
		return false;
	path = path_of(root, part, vm_id, file);
	return write_small(path, text) == 0;
}

static void
each_pid(const char *dir, void (*cb)(pid_t pid, void *arg), void *arg)
{
	_cleanup_(freep)
	char *file = xasprintf("%s/cgroup.procs", dir);
	_cleanup_(freep)
	char *text = NULL;
	char *p, *line;
	int pid;

	if (fs_read_file(file, 1 << 20, &text, NULL, NULL) < 0)
		return;
	for (p = text; (line = strsep(&p, "\n")) != NULL;)
		if (str_to_int(line, 1, INT32_MAX, &pid))
			cb(pid, arg);
}

void
cgroup_each_parked(
    const struct cgroup *cg, void (*cb)(pid_t pid, void *arg), void *arg)
{
	_cleanup_(freep)
	char *pivot = xasprintf("%s/pivot", cg->roots[cg->unified].path);
	_cleanup_(freep)
	char *leaf = xasprintf("%s/lxc.pivot", pivot);

	each_pid(pivot, cb, arg);
	each_pid(leaf, cb, arg);
}

struct running {
	const struct cgroup *cg;
	void (*cb)(int64_t vm_id, void *arg);
	void *arg;
};

/* Calls cb for each directory of a part in one hierarchy. */
static void
each_id(const struct cgroup_root *root, enum cgroup_part part,
    void (*cb)(int64_t vm_id, void *arg), void *arg)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", root->path, part_names[part]);
	DIR *dir = opendir(path);
	struct dirent *e;
	int64_t id;

	if (dir == NULL)
		return;
	while ((e = readdir(dir)) != NULL)
		if (e->d_type == DT_DIR &&
		    str_to_i64(e->d_name, 1, HV_VM_ID_MAX, &id))
			cb(id, arg);
	closedir(dir);
}

void
cgroup_each(
    const struct cgroup *cg, void (*cb)(int64_t vm_id, void *arg), void *arg)
{
	int i;

	for (i = 0; i < cg->n_roots * CGROUP_PART_COUNT_; i++)
		each_id(&cg->roots[i / CGROUP_PART_COUNT_],
		    (enum cgroup_part)(i % CGROUP_PART_COUNT_), cb, arg);
}

static void
if_running(int64_t vm_id, void *arg)
{
	const struct running *r = arg;

	if (cgroup_populated(r->cg, CGROUP_CT, vm_id))
		r->cb(vm_id, r->arg);
}

void
cgroup_each_running(
    const struct cgroup *cg, void (*cb)(int64_t vm_id, void *arg), void *arg)
{
	struct running r = { cg, cb, arg };

	each_id(&cg->roots[cg->unified], CGROUP_CT, if_running, &r);
}

/* The guest may have made groups below its own, at most so deep. */
static void
each_pid_below(
    const char *path, int depth, void (*cb)(pid_t pid, void *arg), void *arg)
{
	struct dirent *e;
	DIR *dir;

	each_pid(path, cb, arg);
	if (depth == 0 || (dir = opendir(path)) == NULL)
		return;
	while ((e = readdir(dir)) != NULL) {
		_cleanup_(freep)
		char *sub = NULL;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		sub = xasprintf("%s/%s", path, e->d_name);
		each_pid_below(sub, depth - 1, cb, arg);
	}
	closedir(dir);
}

void
cgroup_each_pid(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id,
    void (*cb)(pid_t pid, void *arg), void *arg)
{
	_cleanup_(freep)
	char *path = unified_path(cg, part, vm_id, "");

	each_pid_below(path, DEPTH_MAX, cb, arg);
}
