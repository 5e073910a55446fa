/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Memory of the first regime: values that live as long as a scope. Each
 * `_cleanup_(f)` names a function that takes the address of the variable.
 * take_ptr() and take_fd() hand the value over to someone else. Allocation
 * never returns NULL: a daemon that can't get a few bytes aborts, and what
 * it was doing is adopted by the next one. What a peer can size is limited
 * before it is allocated. Every process.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define _cleanup_(f)   __attribute__((cleanup(f)))
#define _unused_       __attribute__((unused))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _noreturn_     __attribute__((noreturn))
/* Runs on a stack that AddressSanitizer doesn't know. */
#define _no_sanitize_ __attribute__((no_sanitize("address")))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Hands a pointer over: yields it and leaves NULL behind. */
#define take_ptr(p)                        \
	({                                 \
		__typeof__(p) *pp_ = &(p); \
		__typeof__(p) v_ = *pp_;   \
		*pp_ = NULL;               \
		v_;                        \
	})

/* Hands a descriptor over: yields it and leaves -1 behind. */
static inline int
take_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

/* Never NULL; zeroed. */
void *xcalloc(size_t n, size_t size) __attribute__((malloc));
void *xrealloc(void *p, size_t n, size_t size);
char *xstrdup(const char *s) __attribute__((malloc));
char *xstrndup(const char *s, size_t n) __attribute__((malloc));
char *xasprintf(const char *fmt, ...) _printf_(1, 2);

/* One zeroed struct of that type. */
#define new0(type) ((type *)xcalloc(1, sizeof(type)))

/* Cleanup functions of types that are not ours. */
void freep(void *pp);
void closep(int *fd);
void fclosep(FILE **f);
/* Wipes the string (explicit_bzero) and frees it: for secrets. */
void wipe_strp(char **s);
void wipe_str(char *s);

#endif
