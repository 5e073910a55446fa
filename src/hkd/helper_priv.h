/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of the helper share: helper.c (life, queue of jobs),
 * helper_vm.c, helper_hook.c, helper_idle.c, helper_repair.c, helper_image.c,
 * helper_storage.c, helper_farm.c and helper_channel.c (operations).
 *
 * A job is one rpc call that needs an operation process. Jobs with the same
 * key (a VM, the image store) run one after the other, in the order in which
 * they were asked for; a job outlives the main that asked for it.
 */
#ifndef HKD_HELPER_PRIV_H
#define HKD_HELPER_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "confine/confine.h"
#include "hkd/helper.h"
#include "hkd/op.h"
#include "hypervisor/cgroup.h"
#include "hypervisor/hv.h"
#include "net/rpc.h"

#define HELPER_OPS_MAX 64 /* operation processes at once */

/* Keys of jobs that are no VM's; 0: needs no turn. */
#define JOB_KEY_IMPORT   (UINT64_MAX - 1)
#define JOB_KEY_CHECKOUT (UINT64_MAX - 2)
#define JOB_KEY_EXPORT   (UINT64_MAX - 3)
#define JOB_KEY_PULL     (UINT64_MAX - 4)

struct helper {
	struct loop *loop;
	const struct node_conf *conf;
	struct op_forge *forge; /* of qvd-hkd-vm */
	char *image_program;
	int host_netns; /* the parent's own */
	int node_netns; /* -1: the same */
	struct confine *confine;
	struct confine_net net;
	bool net_ready;
	struct cgroup cgroup;
	struct rpc *rpc;
	void (*closed)(const struct err *err, void *arg);
	void *closed_arg;
	struct map busy;     /* key -> struct job that runs */
	struct list waiting; /* jobs without a turn yet */
	struct list running;
	struct list dials;    /* struct dial: the same of virtual machines */
	struct list channels; /* struct channel: waiting for an agent */
	int n_running;
};

struct job {
	struct list link;
	struct helper *helper;
	struct rpc_call *call; /* NULL: answered */
	uint64_t key;
	int64_t vm_id;
	char address[CONFINE_ADDR_MAX];
	json_t *args;
	/* Starts the job's work; the job ends by job_done() or job_fail(). */
	void (*run)(struct job *job);
	struct op *op;
	op_done_cb done;
	struct hook *hook; /* helper_hook.c: its program, while it runs */
	int fd;            /* the process gets it as its 1; -1: none */
	bool undo;         /* kill the process when main cancels or goes away */
	bool cancelled;
	struct err err; /* of a start, while it is undone */
};

/* Queues a job for the call. undo: when main cancels or goes away the job's
 * process is killed, else it goes on. */
void job_queue(struct helper *helper, struct rpc_call *call, uint64_t key,
    const json_t *args, void (*run)(struct job *job), bool undo);
/* The same with a descriptor for the process, which is taken. */
void job_queue_fd(struct helper *helper, struct rpc_call *call, uint64_t key,
    const json_t *args, void (*run)(struct job *job), bool undo, int fd);
/* Answer and end. result and fd are taken. */
void job_done(struct job *job, json_t *result, int fd);
void job_fail(struct job *job, const struct err *err);
/* Runs an operation process for the job; failure to start comes as an error
 * through done, too. */
void job_op(
    struct job *job, const char *op, int64_t deadline_ms, op_done_cb done);

/* The same for operations on one VM, or on none (fields: helper_none_fields):
 * checks the form of the arguments first, and answers what is wrong. */
void helper_queue(struct helper *helper, struct rpc_call *call,
    const json_t *args, const struct field *fields,
    void (*run)(struct job *job), bool undo);
extern const struct field helper_id_fields[], helper_none_fields[],
    helper_disks_fields[];
/* An operation that needs no job: its one argument. */
int helper_vm_id(const json_t *args, int64_t *ret_vm_id, struct err *err);
/* Whether what is made here would be taken by other nodes. helper_farm.c */
int helper_check_signer(const struct helper *helper, struct err *err);
/* The process's answer is the answer. */
void helper_on_answer(
    const json_t *result, int fd, const struct err *err, void *arg);

/* Between these two calls the helper is in the node's network namespace. */
int helper_netns_enter(struct helper *helper, struct err *err);
void helper_netns_leave(struct helper *helper);

/* Handlers, by file. arg is the struct helper. */
void handle_node_setup(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_storage_check(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_home_look(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_home_snapshot(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_home_restore(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_home_forget(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_home_grow(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_home_convert(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_storage_collect(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_start(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_adopt(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_list(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_stop(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_clean(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_limits(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_network(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_left(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_node_remains(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_node_remove(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_hook(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_suspend(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_screen(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_console(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_freeze(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_thaw(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_usage(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_disks(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_vm_channel(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_image_import(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_image_checkout(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_image_verify(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_image_commit(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_image_diff(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_image_export(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_image_refs(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_image_gc(
    struct rpc_call *call, const json_t *args, int fd, void *arg);

/* Kills the job's program; its end comes as an error. */
void hook_cancel(struct hook *hook);
/* Kills it; no word of it comes. */
void hook_free(struct hook *hook);

/* Ends every wait for an agent. */
void channels_end(struct helper *helper);
void dials_end(struct helper *helper);
/* vm.channel of a virtual machine; takes the call unless it fails at once.
 * record: of its run. */
int dial_start(struct helper *helper, struct rpc_call *call, int64_t vm_id,
    int64_t wait_ms, const json_t *record, struct err *err);

void handle_image_pull(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_image_serve(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void handle_farm_identity(
    struct rpc_call *call, const json_t *args, int fd, void *arg);

#endif
