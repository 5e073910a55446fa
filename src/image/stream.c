/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A GInputStream over a callback of ours: libostree reads a file's content
 * from it. (Its writer for regular files, which would need none, replaces
 * objects that the repository has, and so ends the sharing of inodes.) It
 * gives exactly the size that was promised.
 */
#include <gio/gio.h>

#include "image/image_priv.h"

struct stream {
	GInputStream parent;
	image_read_cb read;
	void *arg;
	uint64_t left;
	struct err *err; /* what the callback said */
};

struct stream_class {
	GInputStreamClass parent;
};

/* The names that GObject's macro makes from "ImageStream". */
typedef struct stream ImageStream;
typedef struct stream_class ImageStreamClass;
GType image_stream_get_type(void);

G_DEFINE_TYPE(ImageStream, image_stream, G_TYPE_INPUT_STREAM)

static gssize
stream_read(GInputStream *base, void *buf, gsize size, GCancellable *cancel,
    GError **error)
{
	struct stream *s = (struct stream *)(void *)base;
	ssize_t n;

	if (s->left == 0)
		return 0;
	n = s->read(buf, s->left < size ? s->left : size, s->arg, s->err);
	if (n == 0)
		err_set(s->err, ERR_IMAGE,
		    "it is shorter than it says: it is damaged, or was "
		    "changed while it was read");
	if (n <= 0) {
		g_set_error_literal(
		    error, G_IO_ERROR, G_IO_ERROR_FAILED, s->err->msg);
		return -1;
	}
	s->left -= (uint64_t)n;
	return n;
}

static void
image_stream_class_init(ImageStreamClass *class)
{
	class->parent.read_fn = stream_read;
}

static void
image_stream_init(ImageStream *stream)
{
}

GInputStream *
image_stream_new(image_read_cb read, void *arg, uint64_t size, struct err *err)
{
	struct stream *s = g_object_new(image_stream_get_type(), NULL);

	s->read = read;
	s->arg = arg;
	s->left = size;
	s->err = err;
	return &s->parent;
}
