/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The main role of qvd-hkd: one struct node holds everything it knows. It
 * runs unprivileged, decides, and asks the root helper to do. The truth is
 * split: what should be is in the database, what is is in the kernel; the
 * node's structs are the walk between them and can be lost at any moment
 * (the next main adopts).
 *
 * node.c: life (database up and down, setting up, adoption, stopping);
 * vm.c: a VM's states and the reconciler; vm_start.c, vm_stop.c: its steps;
 * vm_row.c: its rows; vm_idle.c: its hibernation; vm_suspend.c: its memory on
 * disk; agent.c: the stream from
 * the agent in it; queue.c, pressure.c: who starts when; import.c: images;
 * garbage.c: what is left of them; farm.c, fetch.c: images to and from other
 * nodes; disks.c: how full they are; repair.c: what a crash left; ctl.c,
 * ctl_image.c, ctl_usage.c: hkd.sock; store.c: what is written to the
 * database.
 */
#ifndef HKD_NODE_H
#define HKD_NODE_H

#include "base/list.h"
#include "base/map.h"
#include "db/db.h"
#include "hkd/disks.h"
#include "loop/loop.h"
#include "model/admission.h"
#include "model/apparmor.h"
#include "model/node_conf.h"
#include "model/states.h"
#include "net/rpc.h"

/* From the farm's configuration rows. */
struct node_settings {
	char *bridge;
	char *gateway;
	char *gateway6;
	char *dns;
	bool nat;
	int packets;
	char *egress; /* where neither OSF nor tenant has one */
	int starts;   /* at once, where nothing presses */
	int64_t lease_ms;
	int64_t grace_ms;
	enum vm_accel accel;
	enum vm_machine machine;
	char *hooks[HOST_HOOK_COUNT_]; /* programs; "": none */
	int64_t hook_ms;
	enum home_store home_store;
	enum root_store root_store;
	int64_t root_mb;
	int64_t root_keep_ms;
	int64_t images_kbit; /* 0: no limit */
	int64_t look_ms;     /* at disks */
};

/* pressure.c */
struct pressure_meter {
	struct pressure last;
	int64_t at_ms; /* 0: never read */
	int64_t total_us[PRESSURE_KINDS];
};
const struct pressure *pressure_read(struct pressure_meter *m);

/* farm.h */
struct node_farm {
	struct tls_ctx *server, *client; /* NULL: no identity (yet) */
	struct listener *listener;
	struct timer timer;  /* looks at the identity again */
	struct list served;  /* connections of others */
	struct fetch *fetch; /* that is under way */
	bool claiming;
	bool caught_up;     /* failures before our start were tried again */
	struct timer pause; /* after a failed one */
};

enum node_phase {
	NODE_WAITING,   /* for the database, or for this host's row */
	NODE_PREPARING, /* network, adoption */
	NODE_RUNNING,
	NODE_STOPPING
};

struct node {
	struct loop *loop;
	const struct node_conf *conf;
	struct db *db;
	struct rpc *helper;
	struct rpc_listener *ctl;
	struct list ctl_peers; /* struct ctl_peer */
	enum node_phase phase;
	int exit_code;
	int64_t host_id;
	enum apparmor apparmor; /* as the helper found it last */
	bool was_up;  /* the database, once: the next time it is back */
	bool db_told; /* that it is gone */
	int64_t down_since_ms;
	struct node_settings settings;
	bool network_ready;
	bool storage_asked; /* whether the node can do what is chosen */
	struct timer heartbeat;
	struct timer retry; /* of the chain below, or of writing */
	int64_t retry_ms;
	bool chain_due; /* host, settings, network, VMs: broke off */
	struct sigwatch term;
	struct map vms;    /* id -> struct vm */
	struct list queue; /* of VMs that wait for their turn to start */
	int n_starting;    /* that have their turn */
	int64_t start_ms;  /* how long a turn lasts, lately; 0: not known */
	struct pressure_meter pressure;
	struct timer admission; /* looks at the pressure again */
	int n_freezing;         /* that are being hibernated */
	bool listing;           /* what is here is being found out */
	int n_adopting;         /* answers still to come */
	struct map trees;       /* checksums whose files are known to be here */
	struct list imports;
	struct list home_jobs; /* of homes, under way */
	struct list collects;  /* removals of old changes under way */
	struct list garbages;  /* garbage.h */
	struct timer garbage;
	struct timer exports; /* garbage of archives that nobody fetched */
	struct node_farm farm;
	struct node_disks disks;
	struct repair *repair; /* that is under way */
	struct list hooks;     /* of the host, that nobody waits for */
	struct list outbox;    /* events not yet written */
	int n_outbox;
	bool outbox_busy;
};

/* The role. fd: the rpc socket to the helper; ctl_fd: hkd.sock. Returns an
 * exit code. */
int node_run(const struct node_conf *conf, int fd, int ctl_fd);

/* Called by the other files. */
/* VMs are reconciled and imports begun only then. */
static inline bool
node_is_running(const struct node *node)
{
	return node->phase == NODE_RUNNING;
}
void node_retry_later(struct node *node);
void node_adopted_one(struct node *node);
/* Reads one VM's row again. */
void node_read_vm(struct node *node, int64_t vm_id);
void queue_init(struct node *node);
/* Whether starts are slow now, because of others or for want of something. */
bool node_is_crowded(struct node *node);
/* Gives free turns to the queue. */
void node_pump_queue(struct node *node);
/* A turn has ended after so long. */
void node_note_start(struct node *node, int64_t took_ms);

/* store.c: everything that is written but runtime rows. An event waits in
 * memory while the database is down, with its own time. */
#define REF_LEN 8
void ref_make(char ret[static REF_LEN + 1]);

struct event {
	const char *name;
	int64_t vm_id, user_id, image_id; /* 0: none */
	int64_t duration_ms;              /* -1: none */
	bool crowded;                     /* a start, which others made slow */
	const char *error_id;             /* NULL: none */
	const char *ref;
};
void store_event(struct node *node, const struct event *event, const char *fmt,
    ...) __attribute__((format(printf, 3, 4)));
/* Writes what waits. */
void store_flush(struct node *node);
void store_done(struct node *node);

/* import.c */
void imports_claim(struct node *node);
void imports_done(struct node *node);

/* home.c */
bool homes_are_worked_on(const struct node *node, int64_t vm_id);
void homes_claim(struct node *node);
void homes_done(struct node *node);
/* Writes what the helper said of a home (home: {...} of a start). */
void home_seen(struct node *node, int64_t vm_id, const json_t *facts);

/* collect.c: a VM's changes to versions that it doesn't run from any more. */
void collect_begin(struct node *node, int64_t vm_id, const char *checksum);
void collects_done(struct node *node);
/* repair.c: what a crash left. done: items {what, vm_id, name[, error]},
 * borrowed; or err. */
typedef void (*repair_done_cb)(
    const json_t *items, const struct err *err, void *arg);
int repair_begin(
    struct node *node, bool dry, repair_done_cb cb, void *arg, struct err *err);
void repair_at_start(struct node *node);
void repair_done(struct node *node);

/* vm_hook.c: those under way are forgotten. */
void hooks_done(struct node *node);

/* ctl.c */
void ctl_open(struct node *node, int fd);
void ctl_close(struct node *node);
/* ctl_usage.c: answers host.usage. */
void ctl_usage(struct node *node, struct rpc_call *call);

/* settings.c: rows of configs. */
void settings_init(struct node_settings *s);
/* The accelerator of an OSF's machines on this node. */
const char *settings_accel(const struct node_settings *s, enum osf_accel osf);
void settings_done(struct node_settings *s);
/* Sets what else but a value has changed. */
struct settings_changes {
	bool network;
	bool storage;
};
void settings_take(struct node_settings *s, const struct db_result *res,
    struct settings_changes *ret);
extern const struct db_stmt settings_stmt;

#endif
