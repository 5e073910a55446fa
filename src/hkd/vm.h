/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One VM as this node walks it: what its row wants, what there is, and the
 * one step that is under way. Owned by node->vms; lives as long as a row
 * places it here or something of it may be left here. Role main.
 */
#ifndef HKD_VM_H
#define HKD_VM_H

#include "hkd/agent.h"
#include "hkd/disks.h"
#include "hkd/node.h"
#include "model/idle.h"
#include "model/states.h"

/* What the rows say (vms, its OSF, user, tenant). */
struct vm_wanted {
	bool exists; /* the vms row is there */
	bool here;   /* and placed on this node */
	enum vm_desired desired;
	char *desired_at; /* tells one wish from the next */
	int64_t epoch;
	int64_t user_id;
	int64_t osf_id;
	char *name;  /* of the VM */
	char *owner; /* "alice@default" */
	char *osf;
	char *tag;
	char *address;
	/* When its run expires, as the agent is told; "" never. */
	char *expire_soft, *expire_hard;
	int64_t expire_due_ms; /* by time_now_ms(): when to begin to tell */
	int32_t idmap_slot;
	bool is_volatile;
	enum hypervisor hypervisor;
	enum osf_machine machine;
	enum osf_accel accel;
	bool memory_merge;    /* vm.kvm.merge of its tenant */
	int64_t idle_after_s; /* 0: never hibernated */
	int64_t memory_mb, swap_mb, cpu_percent, cpu_weight, io_weight;
	int64_t pids_max, home_mb;
	char *devices; /* "": none */
	char *egress;  /* "": the farm's */
	int64_t rate_kbit;
};

/* Where a start or a stop is. Steps are taken in this order. */
enum vm_step {
	VM_STEP_NONE,
	VM_STEP_QUEUED,   /* start: waits for its turn */
	VM_STEP_IMAGE,    /* which image its tag names */
	VM_STEP_CHECKOUT, /* its files on this node */
	VM_STEP_HOOK,     /* the administrator's word */
	VM_STEP_START,    /* the container */
	VM_STEP_AGENT,    /* the agent's first word */
	VM_STEP_ASK,      /* stop: the agent is asked to power off */
	VM_STEP_END,      /* stop: its end is awaited */
	VM_STEP_STOP,     /* stop: liblxc's stop, then kill */
	VM_STEP_CLEAN,    /* what is left is removed */
	VM_STEP_SUSPEND,  /* its memory goes to disk */
};

struct vm {
	struct node *node;
	int64_t id;
	struct vm_wanted want;

	/* What there is; mirrored in vm_runtimes. */
	int64_t epoch;
	enum vm_state state;
	int64_t image_id;
	pid_t pid;
	enum session_state session;
	int64_t session_since_ms;
	char *text;     /* column step */
	struct err err; /* why the run ended badly; ERR_NONE */
	char ref[REF_LEN + 1];

	enum vm_step step;
	struct list queue_link; /* node->queue in VM_STEP_QUEUED */
	bool has_turn;          /* counts in node->n_starting */
	int64_t turn_ms;        /* when it came */
	int told_place;         /* in the queue; 0: none yet */
	bool crowded;           /* this start: others made it slow */
	bool own_init;          /* this start: its image's, not the agent */
	bool hooked;            /* poststop is due at its end */
	bool touched;           /* something of it may be on the node */
	bool asked; /* its agent has been asked to power off, or can't be */
	bool adopting;
	bool freeing; /* at the end of this turn, if it is still of no use */
	struct rpc_request *request; /* the step's, to the helper */
	struct timer deadline;       /* of the state */
	struct timer step_timer;     /* of one step */
	int64_t state_since_ms, run_since_ms;
	int pidfd;
	struct watch exit;
	bool exit_watched;
	struct timer exit_timer; /* it has ended; its last words come first */
	struct agent agent;
	struct agent_call *poweroff;
	struct {
		struct timer timer;
		struct agent_call *call;
		bool told; /* in this session */
	} expiry;

	/* What the firewall has of its policy; NULL: nothing yet. */
	char *egress;
	int64_t rate_kbit;
	struct rpc_request *network_request;

	/* Hibernation. */
	struct timer idle;            /* to it */
	struct rpc_request *freezing; /* counts in node->n_freezing */
	struct rpc_request *thawing;
	bool hibernated;
	const char *woken_for;         /* for the event; NULL: was awake */
	int64_t hibernate_ms, thaw_ms; /* when the last one began */
	int64_t stream_ms;             /* a stream to the agent was given */

	struct vm_disks disks;

	/* Suspension to disk. */
	bool keeps_state; /* what is saved of it outlives this cleaning, or
			   * is what this start goes on from */
	bool resumed;     /* this start went on from it */
	struct agent_call *clock; /* its clock is being set after that */
	char *suspend_tried;      /* the wish (desired_at) that failed; NULL */
	struct err suspend_err;
	char suspend_ref[REF_LEN + 1];

	/* Its image, while it starts. */
	char *image_name; /* "demo@1" */
	char *checksum;
	double phase_ms[3]; /* checkout, start, agent */

	/* Writing of its runtime row. */
	bool saving, dirty;
};

/* vm.c */
struct vm *vm_get(struct node *node, int64_t id); /* made when missing */
void vm_free(struct vm *vm);
void vm_reconcile(struct vm *vm);
/* The transition by model/machine.h; a pair that it refuses is logged and
 * changes nothing (false). */
bool vm_enter(struct vm *vm, enum vm_event event);
/* Notes why the run ends badly (unless something worse is noted), with a new
 * reference, and turns to stopping. name: of the event. */
void vm_fail(struct vm *vm, enum vm_event event, const char *name,
    const struct err *err);
void vm_set_text(struct vm *vm, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void vm_event(struct vm *vm, const char *name, int64_t duration_ms,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void vm_cancel_step(struct vm *vm);
void vm_watch_exit(struct vm *vm, int pidfd);
/* A request to the helper with {"vm_id": id} and more; args taken. */
void vm_ask(struct vm *vm, const char *op, json_t *args, int64_t deadline_ms,
    rpc_result_cb cb);
bool vm_wants_run(const struct vm *vm);
bool vm_wants_suspension(const struct vm *vm);
/* A start that waits for its turn. */
void vm_queue_up(struct vm *vm);
/* Ends its turn among those that start. */
void vm_give_turn(struct vm *vm);

/* vm_start.c: it is its turn; what is left is the agent's word; that came. */
void vm_start_turn(struct vm *vm);
void vm_start_agent(struct vm *vm);
/* Its image is here and the administrator's hook has no objection. */
void vm_start_container(struct vm *vm);
void vm_start_fail(struct vm *vm, const struct err *err);
void vm_start_done(struct vm *vm);
/* vm_stop.c */
void vm_stop_begin(struct vm *vm);
void vm_stop_next(struct vm *vm);
void vm_on_step_timer(struct vm *vm);
void vm_stop_clean(struct vm *vm);
/* vm_adopt.c */
/* Finds out whether a run is alive, after a restart of the daemon. */
void vm_adopt(struct vm *vm);

/* vm_network.c */
/* Adds what the firewall is to know of it, and remembers that it does. */
void vm_network_args(struct vm *vm, json_t *args);
/* It runs, and its policy may be another than the firewall's. */
void vm_network_reconcile(struct vm *vm);
/* Nothing of it is in the firewall any more. */
void vm_network_forget(struct vm *vm);

/* vm_idle.c */
/* Looks again when it is to be hibernated. */
void vm_idle_update(struct vm *vm);
void vm_on_idle(void *arg);
/* Before anything is said to the agent. why: "for its user". */
void vm_wake(struct vm *vm, const char *why);
/* Somebody is given a stream to the agent: awake, and for a while. */
void vm_stream_given(struct vm *vm);
/* Its run has ended. */
void vm_idle_forget(struct vm *vm);

/* vm_suspend.c */
/* Its suspension is wanted, and has not failed already. */
bool vm_suspend_is_due(const struct vm *vm);
void vm_suspend_begin(struct vm *vm);
/* It goes on running. */
void vm_suspend_fail(struct vm *vm, const struct err *err);
/* It goes on: what stood still in it meanwhile. */
void vm_suspend_over(struct vm *vm);
/* It is suspended; what is wanted of it now? */
void vm_suspend_reconcile(struct vm *vm);
/* Nothing of it runs, and its memory is on disk. */
void vm_suspend_done(struct vm *vm);

/* vm_hook.c */
/* Runs prestart, if there is one, then goes on with vm_start_container(). */
void vm_hook_prestart(struct vm *vm);
/* Runs poststart or poststop, if there is one; nobody waits for it. */
void vm_hook_after(struct vm *vm, enum host_hook hook);
/* vm_expire.c */
void vm_expiry_init(struct vm *vm);
void vm_expiry_done(struct vm *vm);
/* Times, state or session may have changed. */
void vm_expiry_look(struct vm *vm);
/* Session or run is over: the next one is told anew. */
void vm_expiry_forget(struct vm *vm);

/* vm_disks.c */
/* What is full or whether its user is there may have changed. */
void vm_disks_look(struct vm *vm);
/* The run is over, and with it what was being told. */
void vm_disks_forget(struct vm *vm);
/* Its user will be told anew. */
void vm_disks_begin_run(struct vm *vm);

/* vm_row.c */
extern const struct db_stmt vm_rows_stmt, vm_row_stmt;
/* Takes what a row says; for a VM first heard of, also what its runtime row
 * says. */
struct vm *vm_take_row(struct node *node, const struct db_result *res, int row);
void vm_save(struct vm *vm);

#endif
