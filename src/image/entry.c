/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What an image may hold. The desktops' users and their root are strangers;
 * an image is what all of them trust. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

static int
refuse(struct err *err, enum err_code code, const char *path, const char *why)
{
	char shown[256];

	return err_set(err, code, "it has an entry '%s', %s",
	    str_escape(shown, sizeof(shown), path, strlen(path)), why);
}

static const char *
skip_root(const char *path)
{
	while (path[0] == '/' || (path[0] == '.' && path[1] == '/'))
		path++;
	return path;
}

/* Programs are there; places for data are not. */
static bool
is_place_of_programs(const char *path)
{
	static const char *const places[] = { "bin/", "sbin/", "lib/", "lib32/",
		"lib64/", "libx32/", "usr/", "opt/" };
	size_t i;

	path = skip_root(path);
	for (i = 0; i < ARRAY_SIZE(places); i++)
		if (str_starts(path, places[i]))
			return true;
	return false;
}

static bool
has_capabilities(GVariant *xattrs)
{
	gsize i, n = xattrs == NULL ? 0 : g_variant_n_children(xattrs);
	bool found = false;

	for (i = 0; i < n && !found; i++) {
		GVariant *pair = g_variant_get_child_value(xattrs, i);
		GVariant *name = g_variant_get_child_value(pair, 0);

		found = str_eq(
		    g_variant_get_bytestring(name), "security.capability");
		g_variant_unref(name);
		g_variant_unref(pair);
	}
	return found;
}

bool
image_entry_is_privileged(const struct image_entry *entry)
{
	return S_ISREG(entry->mode) &&
	       ((entry->mode & (S_ISUID | S_ISGID)) != 0 ||
		   has_capabilities(entry->xattrs));
}

int
image_check_privileged_name(const char *path, struct err *err)
{
	if (is_place_of_programs(path))
		return 0;
	return refuse(err, ERR_IMAGE, path,
	    "a program with more rights than who starts it (set-user-id, "
	    "set-group-id or capabilities), which is allowed below /usr, "
	    "/bin, /sbin, /lib and /opt only");
}

static int
check_privileges(const struct image_entry *entry, struct err *err)
{
	int r;

	if (!image_entry_is_privileged(entry))
		return 0;
	if ((r = image_check_privileged_name(entry->path, err)) < 0)
		return r;
	if ((entry->mode & S_IWOTH) != 0)
		return refuse(err, ERR_IMAGE, entry->path,
		    "a program with more rights than who starts it, which "
		    "everybody may change");
	return 0;
}

uint64_t
image_budget(uint64_t source_bytes)
{
	if (source_bytes > IMAGE_BYTES_MAX / IMAGE_RATIO_MAX)
		return IMAGE_BYTES_MAX;
	return source_bytes * IMAGE_RATIO_MAX > IMAGE_RATIO_MIN
		   ? source_bytes * IMAGE_RATIO_MAX
		   : IMAGE_RATIO_MIN;
}

/* boot/vmlinuz-6.1.0-50-amd64, usr/lib/modules/6.1.0/vmlinuz */
static bool
is_kernel(const char *path)
{
	path = skip_root(path);
	return str_starts(path, "boot/vmlinuz") ||
	       ((str_starts(path, "usr/lib/modules/") ||
		    str_starts(path, "lib/modules/")) &&
		   str_ends(path, "/vmlinuz"));
}

/* lib/modules/6.1.0/modules.dep */
static bool
is_index_of_modules(const char *path)
{
	path = skip_root(path);
	return (str_starts(path, "usr/lib/modules/") ||
		   str_starts(path, "lib/modules/")) &&
	       str_ends(path, "/modules.dep");
}

static bool
is_disk(const char *path)
{
	path = skip_root(path);
	return str_eq(path, "disk.qcow2") || str_eq(path, "disk.raw");
}

/* What the node makes of a tree for a virtual machine (storage/machine.h)
 * needs both a kernel and its modules. */
const char *
image_hypervisors(const struct image_tree *tree)
{
	if (tree->has_disk)
		return "kvm";
	return tree->has_kernel && tree->has_modules ? "lxc kvm" : "lxc";
}

void
image_note_kind(struct image_tree *tree, const char *path)
{
	tree->has_kernel |= is_kernel(path);
	tree->has_modules |= is_index_of_modules(path);
	tree->has_disk |= is_disk(path);
}

int
image_entry_check(
    struct image_tree *tree, const struct image_entry *entry, struct err *err)
{
	bool is_link = S_ISLNK(entry->mode);

	/* A size that was never written counts, too: it costs time. */
	if (!S_ISDIR(entry->mode) && !is_link &&
	    entry->size > tree->bytes_max - tree->bytes)
		return refuse(err, ERR_TOO_LARGE, entry->path,
		    "with which it would be larger than an image of its size "
		    "can be: it is damaged, or made to fill the disk");
	if (is_link && !g_utf8_validate(entry->target, -1, NULL))
		return refuse(err, ERR_IMAGE, entry->path,
		    "a link to a name that is not UTF-8");
	if (S_ISREG(entry->mode))
		image_note_kind(tree, entry->path);
	return check_privileges(entry, err);
}
