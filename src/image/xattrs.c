/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

struct xattr {
	char *name;
	void *value;
	size_t size;
};

static void
xattr_free(gpointer p)
{
	struct xattr *x = p;

	free(x->name);
	free(x->value);
	free(x);
}

void
image_xattrs_add(struct image_xattrs *xattrs, const char *name,
    const void *value, size_t size)
{
	struct xattr *x;
	guint i;

	if (str_starts(name, "trusted.overlay."))
		return;
	/* A tar may have one in two dialects, or twice; the last counts. */
	for (i = 0; xattrs->list != NULL && i < xattrs->list->len; i++) {
		x = xattrs->list->pdata[i];
		if (!str_eq(x->name, name))
			continue;
		g_ptr_array_remove_index(xattrs->list, i);
		break;
	}
	if (xattrs->list == NULL)
		xattrs->list = g_ptr_array_new_with_free_func(xattr_free);
	x = new0(struct xattr);
	x->name = xstrdup(name);
	x->value = xcalloc(1, size + 1);
	memcpy(x->value, value, size);
	x->size = size;
	g_ptr_array_add(xattrs->list, x);
}

static gint
compare_xattrs(gconstpointer a, gconstpointer b)
{
	const struct xattr *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

/* libostree's form: sorted pairs of name (with its NUL) and value. */
GVariant *
image_xattrs_end(struct image_xattrs *xattrs)
{
	GVariantBuilder builder;
	guint i;

	if (xattrs->list == NULL)
		return NULL;
	g_ptr_array_sort(xattrs->list, compare_xattrs);
	g_variant_builder_init(&builder, G_VARIANT_TYPE("a(ayay)"));
	for (i = 0; i < xattrs->list->len; i++) {
		const struct xattr *x = xattrs->list->pdata[i];

		g_variant_builder_add(&builder, "(@ay@ay)",
		    g_variant_new_bytestring(x->name),
		    g_variant_new_fixed_array(
			G_VARIANT_TYPE_BYTE, x->value, x->size, 1));
	}
	g_ptr_array_unref(xattrs->list);
	xattrs->list = NULL;
	return g_variant_ref_sink(g_variant_builder_end(&builder));
}
