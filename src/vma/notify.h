/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A message to the user on the desktop: by the image's own program
 * /etc/qvd/notify (title, text), if it has one, else in a window of ours.
 * That window speaks the X protocol itself, because the agent runs in images
 * of any kind and can rely on no library; it is the role "message" of this
 * program, run as the user. VMA.
 */
#ifndef VMA_NOTIFY_H
#define VMA_NOTIFY_H

#include "model/fill.h"
#include "vma/session.h"

/* Shows text, instead of what it showed before. False: nobody is there to
 * read it, or it can't be shown (logged). */
bool notify_show(struct session *s, const char *text);
/* The message's program has ended. */
void notify_on_end(struct task *task, int status, bool timed_out, void *arg);
/* What the user is told of an expiry; hard: when the restart is, or NULL.
 * Heap. */
char *notify_expiry_text(const char *hard);
/* What the user is told of something that is (nearly) full. */
const char *notify_disk_text(enum vm_disk disk, enum fill fill);

/* The role: stays until the user has clicked on the window. */
int message_main(const char *text);
/* Breaks text into lines of at most width bytes at blanks, in place: how many
 * there are; the rest of the text is cut. */
int message_wrap(char *text, int width, char **lines, int n_max);

#endif
