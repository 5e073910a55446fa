/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * first-window: waits until an X display shows its first window with a
 * picture in it, and prints how many milliseconds that took. For `make
 * demo`, system tests and benchmarks. It learns of windows and of drawing by
 * events (SubstructureNotify, DAMAGE), so that it neither polls nor sleeps;
 * a picture is an area that has at least --colors colours.
 *
 *	first-window [--display :9] [--timeout S] [--min WxH] [--colors N]
 *	             [--since MS] [--any]
 *
 * --since: the start as a value of CLOCK_MONOTONIC in ms; else our own.
 * --any: a picture on the root window or an override-redirect window counts.
 * Exit: 0 and "MS WINDOW WIDTHxHEIGHT"; 1 after the timeout; 2 usage; 3 no
 * display. In no daemon.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xcb/damage.h>
#include <xcb/xcb.h>

#define CONNECT_STEP_MS 20
#define WINDOWS_MAX     256
#define GRAB_ROWS       64 /* so many rows spread over the window are read */

struct window {
	xcb_window_t id;
	xcb_damage_damage_t damage;
};

struct watcher {
	xcb_connection_t *x;
	xcb_window_t root;
	uint8_t damage_event;
	int64_t start_ms, deadline_ms;
	int min_width, min_height, colors;
	bool any;
	struct window windows[WINDOWS_MAX];
	int n;
};

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static long
number(const char *s, long min, long max)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(s, &end, 10);
	if (errno != 0 || end == s || *end != '\0' || v < min || v > max) {
		fprintf(stderr, "first-window: '%s' is not %ld to %ld\n", s,
		    min, max);
		exit(2);
	}
	return v;
}

/* The display may not exist yet: that is waited for too, in small steps,
 * because X servers announce nothing to those who aren't their parent. */
static bool
connect_display(struct watcher *w, const char *display)
{
	struct timespec step = { .tv_nsec = CONNECT_STEP_MS * 1000000L };

	for (;;) {
		w->x = xcb_connect(display, NULL);
		if (xcb_connection_has_error(w->x) == 0)
			return true;
		xcb_disconnect(w->x);
		if (now_ms() > w->deadline_ms)
			return false;
		nanosleep(&step, NULL);
	}
}

static bool
setup(struct watcher *w)
{
	const uint32_t mask = XCB_EVENT_MASK_SUBSTRUCTURE_NOTIFY;
	const xcb_query_extension_reply_t *ext;
	xcb_damage_query_version_reply_t *version;

	w->root = xcb_setup_roots_iterator(xcb_get_setup(w->x)).data->root;
	ext = xcb_get_extension_data(w->x, &xcb_damage_id);
	if (ext == NULL || !ext->present) {
		fputs("first-window: the X server has no DAMAGE\n", stderr);
		return false;
	}
	w->damage_event = ext->first_event;
	version = xcb_damage_query_version_reply(
	    w->x, xcb_damage_query_version(w->x, 1, 1), NULL);
	free(version);
	xcb_change_window_attributes(w->x, w->root, XCB_CW_EVENT_MASK, &mask);
	return true;
}

/* Starts to hear of drawing in a window and its children. */
static void
watch_window(struct watcher *w, xcb_window_t id)
{
	struct window *win;
	int i;

	for (i = 0; i < w->n; i++)
		if (w->windows[i].id == id)
			return;
	if (w->n == WINDOWS_MAX)
		return;
	win = &w->windows[w->n++];
	win->id = id;
	win->damage = xcb_generate_id(w->x);
	xcb_damage_create(
	    w->x, win->damage, id, XCB_DAMAGE_REPORT_LEVEL_NON_EMPTY);
}

static void
forget_window(struct watcher *w, xcb_window_t id)
{
	int i;

	for (i = 0; i < w->n; i++)
		if (w->windows[i].id == id) {
			w->windows[i] = w->windows[--w->n];
			return;
		}
}

/* Counts the colours of one row, up to what is asked for. */
static int
count_colors(const uint8_t *data, int len, uint32_t *seen, int n, int max)
{
	uint32_t pixel;
	int i, j;

	for (i = 0; i + 4 <= len && n < max; i += 4) {
		memcpy(&pixel, data + i, 4);
		pixel &= 0xffffff;
		for (j = 0; j < n && seen[j] != pixel; j++)
			;
		if (j == n)
			seen[n++] = pixel;
	}
	return n;
}

static bool
has_picture(struct watcher *w, xcb_window_t id, int width, int height)
{
	uint32_t seen[256];
	int n = 0, i;

	for (i = 0; i < GRAB_ROWS && n < w->colors; i++) {
		xcb_get_image_reply_t *image = xcb_get_image_reply(w->x,
		    xcb_get_image(w->x, XCB_IMAGE_FORMAT_Z_PIXMAP, id, 0,
			(int16_t)(height * i / GRAB_ROWS), (uint16_t)width, 1,
			~0U),
		    NULL);

		if (image == NULL) /* unmapped meanwhile, or off the screen */
			return false;
		n = count_colors(xcb_get_image_data(image),
		    xcb_get_image_data_length(image), seen, n, w->colors);
		free(image);
	}
	return n >= w->colors;
}

/* Prints and returns true if this window is what we wait for. */
static bool
check_window(struct watcher *w, xcb_window_t id)
{
	xcb_get_geometry_reply_t *g =
	    xcb_get_geometry_reply(w->x, xcb_get_geometry(w->x, id), NULL);
	xcb_get_window_attributes_reply_t *a = xcb_get_window_attributes_reply(
	    w->x, xcb_get_window_attributes(w->x, id), NULL);
	bool ok = g != NULL && a != NULL &&
		  a->map_state == XCB_MAP_STATE_VIEWABLE &&
		  (w->any || !a->override_redirect) &&
		  g->width >= w->min_width && g->height >= w->min_height &&
		  has_picture(w, id, g->width, g->height);

	if (ok)
		printf("%lld 0x%x %dx%d\n", (long long)(now_ms() - w->start_ms),
		    id, g->width, g->height);
	free(g);
	free(a);
	return ok;
}

static bool
check_existing(struct watcher *w)
{
	xcb_query_tree_reply_t *tree =
	    xcb_query_tree_reply(w->x, xcb_query_tree(w->x, w->root), NULL);
	bool found = false;
	int i, n;

	if (tree == NULL)
		return false;
	n = xcb_query_tree_children_length(tree);
	for (i = 0; i < n; i++)
		watch_window(w, xcb_query_tree_children(tree)[i]);
	for (i = 0; i < n && !found; i++)
		found = check_window(w, xcb_query_tree_children(tree)[i]);
	free(tree);
	if (w->any)
		watch_window(w, w->root);
	return found || (w->any && check_window(w, w->root));
}

static bool
on_event(struct watcher *w, const xcb_generic_event_t *event)
{
	int type = event->response_type & 0x7f;

	if (type == w->damage_event + XCB_DAMAGE_NOTIFY) {
		const xcb_damage_notify_event_t *d = (const void *)event;

		xcb_damage_subtract(w->x, d->damage, XCB_XFIXES_REGION_NONE,
		    XCB_XFIXES_REGION_NONE);
		return check_window(w, d->drawable);
	}
	if (type == XCB_MAP_NOTIFY) {
		const xcb_map_notify_event_t *m = (const void *)event;

		watch_window(w, m->window);
		return check_window(w, m->window);
	}
	if (type == XCB_DESTROY_NOTIFY) {
		const xcb_destroy_notify_event_t *d = (const void *)event;

		forget_window(w, d->window);
	}
	return false;
}

static int
watch(struct watcher *w)
{
	struct pollfd p = { .fd = xcb_get_file_descriptor(w->x),
		.events = POLLIN };
	xcb_generic_event_t *event;
	int64_t left;
	bool found;

	if (check_existing(w))
		return 0;
	for (;;) {
		xcb_flush(w->x);
		while ((event = xcb_poll_for_event(w->x)) != NULL) {
			found = on_event(w, event);
			free(event);
			if (found)
				return 0;
			xcb_flush(w->x);
		}
		if (xcb_connection_has_error(w->x) != 0) {
			fputs("first-window: the X server has gone\n", stderr);
			return 3;
		}
		left = w->deadline_ms - now_ms();
		if (left <= 0 || poll(&p, 1, (int)left) == 0) {
			fputs(
			    "first-window: no window with a picture\n", stderr);
			return 1;
		}
	}
}

static const struct option options[] = {
	{ "display", required_argument, NULL, 'd' },
	{ "timeout", required_argument, NULL, 't' },
	{ "min", required_argument, NULL, 'm' },
	{ "colors", required_argument, NULL, 'c' },
	{ "since", required_argument, NULL, 's' },
	{ "any", no_argument, NULL, 'a' },
	{ NULL, 0, NULL, 0 },
};

static void
set_min(struct watcher *w, char *value)
{
	char *x = strchr(value, 'x');

	if (x == NULL) {
		fputs("first-window: --min is WIDTHxHEIGHT\n", stderr);
		exit(2);
	}
	*x = '\0';
	w->min_width = (int)number(value, 1, 16384);
	w->min_height = (int)number(x + 1, 1, 16384);
}

int
main(int argc, char **argv)
{
	struct watcher w = { .start_ms = now_ms(),
		.min_width = 32,
		.min_height = 32,
		.colors = 2 };
	const char *display = NULL;
	long seconds = 60;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			display = optarg;
			break;
		case 't':
			seconds = number(optarg, 1, 3600);
			break;
		case 'm':
			set_min(&w, optarg);
			break;
		case 'c':
			w.colors = (int)number(optarg, 1, 256);
			break;
		case 's':
			w.start_ms = number(optarg, 0, INT64_MAX);
			break;
		case 'a':
			w.any = true;
			break;
		default:
			return 2;
		}
	}
	w.deadline_ms = now_ms() + seconds * 1000;
	if (!connect_display(&w, display)) {
		fputs("first-window: no such display\n", stderr);
		return 3;
	}
	return setup(&w) ? watch(&w) : 3;
}
