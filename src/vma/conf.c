/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/conf.h"

#include "base/fs.h"

#define KEY(section_, key_, type_, member, def_, doc_)                    \
	{                                                                 \
		.section = section_, .key = key_, .type = CONF_##type_,   \
		.offset = offsetof(struct vma_conf, member), .def = def_, \
		.min = 1, .max = 1000, .doc = doc_                        \
	}

const struct conf_key vma_conf_keys[] = {
	KEY("vma", "socket", STR, socket, "/run/qvd/vma.sock",
	    "Where the node reaches the agent; its directory is root's alone."),
	KEY("vma", "secret", STR, secret,
	    "/sys/firmware/qemu_fw_cfg/by_name/opt/org.qvd/secret/raw",
	    "In a virtual machine, what the node tells it: the secret of its "
	    "channel over TCP. A container has none."),
	KEY("vma", "hooks", STR, hooks, "/etc/qvd/hooks",
	    "Directory of the hooks."),
	KEY("vma", "runtime", STR, runtime, "/run/qvd-session",
	    "Directory of the sessions' sockets and cookies."),
	KEY("vma", "hook_timeout", DURATION, hook_timeout_ms, "30s",
	    "How long a hook may take before it is killed."),
	KEY("session", "program", STR, session, "",
	    "The X session; empty: /etc/qvd/session, else /etc/X11/Xsession."),
	KEY("session", "display", INT, display, "100",
	    "Number of the X display."),
	KEY("session", "logout_timeout", DURATION, logout_timeout_ms, "5s",
	    "How long the session may take to end when told so."),
	KEY("agent", "program", STR, agent, "/usr/bin/nxagent",
	    "The X server that outlives its displays."),
	KEY("agent", "timeout", DURATION, agent_timeout_ms, "10s",
	    "How long it may take to listen, to suspend, to end."),
	KEY("home", "path", STR, home, "/home", "Where the homes are."),
	KEY("home", "device", STR, home_device, "",
	    "Block device with the homes; formatted if it is blank. Empty: "
	    "the homes are where the node has mounted them."),
	KEY("home", "fs", STR, home_fs, "ext4",
	    "File system for a blank device."),
	KEY("home", "provision_timeout", DURATION, provision_timeout_ms, "60s",
	    "How long making a user's account and home may take."),
	{ .key = NULL },
};

int
vma_conf_load(struct vma_conf *conf, const char *path, struct err *err)
{
	return conf_load(
	    fs_exists(path) ? path : NULL, vma_conf_keys, conf, err);
}

void
vma_conf_done(struct vma_conf *conf)
{
	conf_done(vma_conf_keys, conf);
}
