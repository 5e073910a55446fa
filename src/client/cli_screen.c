/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The X server's keyboard layout, as setxkbmap -query shows it, and the size
 * of its screen, so that the desktop gets both without being asked.
 */
#include <string.h>
#include <xcb/xcb.h>

#include "base/mem.h"
#include "base/str.h"
#include "client/cli.h"

#define RULES_WORDS 128 /* the property's length limit, in 4 bytes */

/* The n-th of a row of NUL-ended strings; only its part before a comma. */
static bool
take_word(const char *data, size_t len, int n, char *dst, size_t size)
{
	size_t i = 0, w;

	for (; n > 0; n--) {
		i += strnlen(data + i, len - i) + 1;
		if (i >= len)
			return false;
	}
	w = strnlen(data + i, len - i);
	if (memchr(data + i, ',', w) != NULL)
		w = (size_t)((const char *)memchr(data + i, ',', w) -
			     (data + i));
	if (w == 0 || w >= size)
		return false;
	memcpy(dst, data + i, w);
	dst[w] = '\0';
	return str_is_token(dst, size) && strchr(dst, '/') == NULL;
}

/* Property _XKB_RULES_NAMES of the root window (X Keyboard Extension
 * library, "XkbRF_GetNamesProp"): rules, model, layout, variant, options. */
static void
get_keyboard(xcb_connection_t *x, xcb_window_t root, struct cli_screen *ret)
{
	static const char name[] = "_XKB_RULES_NAMES";
	xcb_intern_atom_reply_t *atom;
	xcb_get_property_reply_t *prop = NULL;
	char model[24], layout[24];
	const char *data;
	size_t len;

	atom = xcb_intern_atom_reply(
	    x, xcb_intern_atom(x, 1, sizeof(name) - 1, name), NULL);
	if (atom != NULL && atom->atom != XCB_ATOM_NONE)
		prop = xcb_get_property_reply(x,
		    xcb_get_property(x, 0, root, atom->atom, XCB_ATOM_STRING, 0,
			RULES_WORDS),
		    NULL);
	if (prop != NULL) {
		data = xcb_get_property_value(prop);
		len = (size_t)xcb_get_property_value_length(prop);
		if (take_word(data, len, 1, model, sizeof(model)) &&
		    take_word(data, len, 2, layout, sizeof(layout)))
			snprintf(ret->keyboard, sizeof(ret->keyboard), "%s/%s",
			    model, layout);
	}
	free(prop);
	free(atom);
}

/* A window manager is who hears of windows before they are mapped. */
static bool
is_managed(xcb_connection_t *x, xcb_window_t root)
{
	xcb_get_window_attributes_reply_t *a = xcb_get_window_attributes_reply(
	    x, xcb_get_window_attributes(x, root), NULL);
	bool managed =
	    a != NULL &&
	    (a->all_event_masks & XCB_EVENT_MASK_SUBSTRUCTURE_REDIRECT) != 0;

	free(a);
	return managed;
}

void
cli_screen_get(struct cli_screen *ret)
{
	xcb_connection_t *x;
	xcb_screen_iterator_t it;
	int number = 0;

	memset(ret, 0, sizeof(*ret));
	x = xcb_connect(NULL, &number);
	if (xcb_connection_has_error(x) == 0) {
		it = xcb_setup_roots_iterator(xcb_get_setup(x));
		for (; number > 0 && it.rem > 1; number--)
			xcb_screen_next(&it);
		ret->width = it.data->width_in_pixels;
		ret->height = it.data->height_in_pixels;
		get_keyboard(x, it.data->root, ret);
		ret->managed = is_managed(x, it.data->root);
	}
	xcb_disconnect(x);
}
