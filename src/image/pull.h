/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An image from another node's store, over a stream that the caller made
 * (mTLS ends before it). The pulling end asks for objects by their checksums
 * and believes nothing: what comes is hashed before it is an object, so that
 * a node can serve wrong bytes, too many or none, but never put any into
 * the store. The serving end gives what one image consists of, and nothing
 * else.
 *
 * Objects travel compressed; a changed file or folder with the one of that
 * path in an image that both have as its dictionary. Each batch of objects
 * is in the store for good before the next is asked for, kept by the image's
 * ref and a commit that is marked as partial: a pull that was killed goes on
 * where it was, and nobody takes the image for whole before it is.
 *
 * Synchronous, root, in qvd-hkd-image, as image.h.
 */
#ifndef IMAGE_PULL_H
#define IMAGE_PULL_H

#include "image/image.h"

struct image_pull {
	const char *data_dir;
	int64_t image_id;
	const char *checksum; /* of the commit */
	const char *base;     /* a commit that is much like it; "": unknown */
	/* PEM: the farm's signing keys, one of which must have signed it.
	 * NULL: the farm has none. */
	const char *trusted;
	int fd;       /* borrowed */
	int64_t rate; /* bytes a second that may come; 0: no limit */
	/* As image_import's. */
	void (*progress)(int percent, const char *text, void *arg);
	void *arg;
};

struct image_pulled {
	uint64_t objects;
	uint64_t bytes;    /* of those objects, as they are in the store */
	uint64_t received; /* on the stream */
	uint64_t sent;
};

/* The commit is in the store afterwards, whole. ERR_NO_SPACE before anything
 * large has come if it won't fit. */
int image_pull(
    const struct image_pull *pull, struct image_pulled *ret, struct err *err);
/* Answers on fd (borrowed) until the other end closes it. */
int image_serve(
    const char *data_dir, const char *checksum, int fd, struct err *err);

/* The farm's signature of a commit (ed25519, OpenSSL). */
#define IMAGE_SIGNATURE_LEN 64
/* A new pair of keys as PEM, heap; the private one must be wiped. */
int image_sign_keys(char **ret_private, char **ret_public, struct err *err);
int image_sign(const char *private_pem, const char *checksum,
    unsigned char ret[static IMAGE_SIGNATURE_LEN], struct err *err);
/* 0 if one of the PEM text's public keys has signed it. len 0: no signature. */
int image_signature_check(const char *public_pem, const char *checksum,
    const void *signature, size_t len, struct err *err);
/* The same with the signature that the store keeps beside a commit. */
int image_store_sign(const char *data_dir, const char *private_pem,
    const char *checksum, struct err *err);
int image_store_check_signature(const char *data_dir, const char *public_pem,
    const char *checksum, struct err *err);

#endif
