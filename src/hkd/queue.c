/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whose turn it is to start: as many at once as the node bears
 * (model/admission.h), in the order in which they were wanted. */
#include <sys/sysinfo.h>

#include "base/time.h"
#include "hkd/vm.h"

#define AGAIN_MS       500  /* the pressure may have gone, with nobody's end */
#define FIRST_GUESS_MS 1000 /* a start, before one was seen */

static void
on_admission(void *arg)
{
	node_pump_queue(arg);
}

void
queue_init(struct node *node)
{
	list_init(&node->queue);
	timer_init(&node->admission, node->loop, on_admission, node);
}

/* A mean over the last dozen. */
void
node_note_start(struct node *node, int64_t took_ms)
{
	node->start_ms =
	    node->start_ms == 0 ? took_ms : (node->start_ms * 7 + took_ms) / 8;
}

/* Those who wait hear their place; the text goes to their rows, and from
 * there to their clients. */
static void
tell_places(struct node *node, int turns, const char *shortage)
{
	int64_t start_ms = node->start_ms > 0 ? node->start_ms : FIRST_GUESS_MS;
	int place = 0, waiting = 0;
	char text[160];
	struct vm *vm;

	LIST_EACH (&node->queue, vm, struct vm, queue_link)
		waiting++;
	LIST_EACH (&node->queue, vm, struct vm, queue_link) {
		if (!admission_tells(vm->told_place, ++place))
			continue;
		vm->told_place = place;
		admission_text(text, sizeof(text), place, waiting,
		    admission_estimate_ms(place, turns, start_ms), shortage);
		vm_set_text(vm, "%s", text);
		vm_save(vm);
	}
}

bool
node_is_crowded(struct node *node)
{
	return admission_crowded(pressure_read(&node->pressure), get_nprocs(),
	    node->settings.starts, node->n_starting);
}

void
node_pump_queue(struct node *node)
{
	const char *shortage = NULL;
	struct vm *vm;
	int turns;

	if (!node_is_running(node) || list_empty(&node->queue))
		return;
	turns = admission_turns(pressure_read(&node->pressure), get_nprocs(),
	    node->settings.starts, &shortage);
	while (node->n_starting < turns &&
	       (vm = list_first(&node->queue, struct vm, queue_link)) != NULL) {
		list_del(&vm->queue_link);
		vm_start_turn(vm);
	}
	if (list_empty(&node->queue))
		return;
	tell_places(node, turns, shortage);
	if (!timer_active(&node->admission))
		timer_start(&node->admission, AGAIN_MS);
}
