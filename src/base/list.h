/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Intrusive doubly linked list: the third memory regime. An owner embeds a
 * struct list as head; each member embeds a struct list as link and is on
 * exactly one list at a time. Nothing is allocated. Every process.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

struct list {
	struct list *prev, *next;
};

static inline void
list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool
list_empty(const struct list *l)
{
	return l->next == l;
}

/* Adds at the end. */
static inline void
list_add(struct list *head, struct list *link)
{
	link->prev = head->prev;
	link->next = head;
	head->prev->next = link;
	head->prev = link;
}

/* Takes a member off its list; harmless if it is on none (but inited). */
static inline void
list_del(struct list *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	list_init(link);
}

static inline void
list_move(struct list *head, struct list *link)
{
	list_del(link);
	list_add(head, link);
}

#define list_entry(link, type, member) container_of(link, type, member)
#define list_first(head, type, member) \
	(list_empty(head) ? NULL : list_entry((head)->next, type, member))

/* The member may be taken off and freed inside the loop. */
#define LIST_EACH(head, var, type, member)                                  \
	for (struct list *n_##var = (head)->next, *x_##var = n_##var->next; \
	     n_##var != (head) &&                                           \
	     ((var) = list_entry(n_##var, type, member), 1);                \
	     n_##var = x_##var, x_##var = n_##var->next)

#endif
