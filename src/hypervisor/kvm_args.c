/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A machine as QEMU's arguments. Pure, so that a test reads them. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "confine/confine.h"
#include "hypervisor/kvm_priv.h"
#include "json/json.h"

#define ARGS_MAX 128

struct args {
	char **v;
	int n;
};

static void add(struct args *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void
add(struct args *a, const char *fmt, ...)
{
	va_list ap;
	char *s = NULL;

	va_start(ap, fmt);
	if (a->n == ARGS_MAX || vasprintf(&s, fmt, ap) < 0)
		abort();
	va_end(ap);
	a->v[a->n++] = s;
}

static void
add_option(struct args *a, const char *option, const char *value)
{
	add(a, "%s", option);
	add(a, "%s", value);
}

/* Virtio devices are on PCI, or for a microvm on its own bus. */
static void
add_virtio(struct args *a, const struct kvm_machine *m, const char *kind,
    const char *options)
{
	add(a, "-device");
	add(a, "virtio-%s-%s%s", kind, m->microvm ? "device" : "pci", options);
}

static void
add_machine(struct args *a, const struct kvm_machine *m)
{
	const char *merge = m->vm->memory_merge ? "on" : "off";

	add(a, "-machine");
	if (m->microvm)
		add(a, "microvm,acpi=on,rtc=on,mem-merge=%s", merge);
	else
		add(a, "q35,vmport=off,mem-merge=%s", merge);
	add(a, "-accel");
	if (m->kvm)
		add(a, "kvm");
	else
		add(a, "tcg,thread=multi,tb-size=%d", KVM_TRANSLATION_MB);
	add_option(a, "-cpu", m->kvm ? "host" : "max");
	add(a, "-m");
	add(a, "%lldM", (long long)m->vm->memory_mb);
	add(a, "-smp");
	add(a, "%d", m->cpus);
}

/* A node of QEMU's tree of block devices. Takes args. */
static void
add_blockdev(struct args *a, json_t *args)
{
	_cleanup_(freep)
	char *text = json_text(args);

	json_decref(args);
	add_option(a, "-blockdev", text);
}

static void
add_file(struct args *a, const char *name, enum kvm_fd fd, bool writable)
{
	char node[32], path[32];

	add(a, "-add-fd");
	add(a, "fd=%d,set=%d", (int)fd, (int)fd);
	snprintf(node, sizeof(node), "%s-file", name);
	snprintf(path, sizeof(path), "/dev/fdset/%d", (int)fd);
	add_blockdev(a, json_pack("{ss ss ss sb ss}", "driver", "file",
			    "node-name", node, "filename", path, "read-only",
			    (int)!writable, "discard", "unmap"));
}

/* The file of that name, as it is. */
static void
add_raw(struct args *a, const char *name)
{
	char file[32];

	snprintf(file, sizeof(file), "%s-file", name);
	add_blockdev(
	    a, json_pack("{ss ss ss ss ss}", "driver", "raw", "node-name", name,
		   "file", file, "discard", "unmap", "detect-zeroes", "unmap"));
}

/* Where a commit goes: a machine's tar, or the image that a tool of QEMU's own
 * makes of the disk, for which the file is enough. */
static void
add_pack(struct args *a, const struct kvm_machine *m)
{
	add_file(a, "pack", KVM_FD_HOME, true);
	if (!m->of_tree)
		return;
	add_raw(a, "pack");
	/* Nobody could make room and let it go on. */
	add_virtio(a, m, "blk", ",drive=pack,serial=pack,werror=report");
}

static void
add_home(struct args *a, const struct kvm_machine *m)
{
	add_file(a, "home", KVM_FD_HOME, true);
	add_raw(a, "home");
	add_virtio(a, m, "blk", ",drive=home,serial=home");
}

/* Formats and what lies below are said here, never read from a file. */
static void
add_disks(struct args *a, const struct kvm_machine *m)
{
	json_t *base = json_pack("{ss ss ss sb}", "driver", m->image.format,
	    "node-name", "image", "file", "image-file", "read-only", 1);
	json_t *root;

	if (str_eq(m->image.format, "qcow2"))
		json_object_set_new(base, "backing", json_null());
	add_file(a, "image", KVM_FD_IMAGE, false);
	add_blockdev(a, base);
	add_file(a, "root", KVM_FD_ROOT, true);
	root = json_pack("{ss ss ss ss}", "driver", m->root.format, "node-name",
	    "root", "file", "root-file", "discard", "unmap");
	if (!m->of_tree)
		json_object_set_new(root, "backing", json_string("image"));
	add_blockdev(a, root);
	/* What is below the changes is QEMU's affair for blocks, and the
	 * guest's for files. */
	if (m->of_tree)
		add_virtio(a, m, "blk", ",drive=image,serial=image");
	/* 0 is QEMU's own, for a kernel that it boots itself. */
	add_virtio(a, m, "blk",
	    m->microvm ? ",drive=root,serial=root"
		       : ",drive=root,serial=root,bootindex=1");
	if (m->pack)
		add_pack(a, m);
	else
		add_home(a, m);
}

static void
add_network(struct args *a, const struct kvm_machine *m)
{
	char mac[CONFINE_MAC_MAX], options[96];

	confine_mac(m->vm->address, mac);
	add(a, "-netdev");
	if (m->fds[KVM_FD_VHOST] >= 0)
		add(a, "tap,id=net0,fd=%d,vhost=on,vhostfd=%d", KVM_FD_TAP,
		    KVM_FD_VHOST);
	else
		add(a, "tap,id=net0,fd=%d", KVM_FD_TAP);
	snprintf(options, sizeof(options), ",netdev=net0,mac=%s%s", mac,
	    m->microvm ? "" : ",romfile=");
	add_virtio(a, m, "net", options);
}

static void
add_devices(struct args *a, const struct kvm_machine *m)
{
	add_virtio(
	    a, m, "balloon", ",free-page-reporting=on,deflate-on-oom=on");
	add_option(a, "-object", "rng-builtin,id=rng0");
	add_virtio(a, m, "rng", ",rng=rng0");
	if (m->microvm)
		return;
	/* A screen; nobody listens for viewers. */
	add_option(a, "-device", "VGA,vgamem_mb=16");
	add_option(a, "-device", "virtio-tablet-pci");
	add_option(a, "-vnc", "none");
}

static void
add_sockets(struct args *a)
{
	add(a, "-chardev");
	add(a, "socket,id=qmp,fd=%d,server=on,wait=off", KVM_FD_QMP);
	add_option(a, "-mon", "chardev=qmp,mode=control");
	add(a, "-chardev");
	add(a,
	    "socket,id=console,fd=%d,server=on,wait=off,"
	    "logfile=/log/console.log",
	    KVM_FD_CONSOLE);
	add_option(a, "-serial", "chardev:console");
}

/* The addresses that the firewall knows. */
static void
add_ipv6(struct args *a, const struct kvm_machine *m)
{
	const struct hv_node *node = m->node;
	char address[CONFINE_ADDR6_MAX], text[CONFINE_ADDR6_MAX + 4];
	struct ipv6_net net6;

	if (node->gateway6[0] == '\0')
		return;
	snprintf(text, sizeof(text), "%s/%d", node->gateway6, node->prefix6);
	if (ipv6_net_parse(text, &net6, NULL) < 0)
		return; /* the node has checked its settings */
	confine_address6(&net6, m->vm->address, address);
	add(a, "-fw_cfg");
	add(a, "name=opt/org.qvd/address6,string=%s/%d", address,
	    node->prefix6);
	add(a, "-fw_cfg");
	add(a, "name=opt/org.qvd/gateway6,string=%s", node->gateway6);
}

/* What the guest is told of itself, under /sys/firmware/qemu_fw_cfg. */
static void
add_facts(struct args *a, const struct kvm_machine *m)
{
	const struct {
		const char *name, *value;
	} facts[] = { { "hostname", m->vm->hostname },
		{ "gateway", m->node->gateway } };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(facts); i++) {
		add(a, "-fw_cfg");
		add(a, "name=opt/org.qvd/%s,string=%s", facts[i].name,
		    facts[i].value);
	}
	add(a, "-fw_cfg");
	add(a, "name=opt/org.qvd/address,string=%s/%d", m->vm->address,
	    m->node->prefix);
	add_ipv6(a, m);
	/* These have commas, or are secret: arguments can be seen. */
	add_option(a, "-fw_cfg", "name=opt/org.qvd/dns,file=/dns");
	add_option(a, "-fw_cfg", "name=opt/org.qvd/secret,file=/secret");
}

static void
add_boot(struct args *a, const struct kvm_machine *m)
{
	if (m->has_kernel) {
		add_option(a, "-kernel", "/kernel");
		add(a, "-append");
		/* An emulated microvm has no timer by which Linux could find
		 * out that QEMU's time stamp counter counts nanoseconds. */
		add(a, "%s%s", m->cmdline,
		    m->microvm && !m->kvm ? " tsc_early_khz=1000000" : "");
	}
	if (m->has_kernel && m->has_initrd)
		add_option(a, "-initrd", "/initrd");
	/* Its limits are looked at before its first instruction. */
	add(a, "-S");
	if (m->restore)
		add_option(a, "-incoming", "defer");
}

char **
kvm_args(const struct kvm_machine *m)
{
	struct args a = { .v = xcalloc(ARGS_MAX + 1, sizeof(char *)) };

	add(&a, "qemu-system-x86_64");
	add(&a, "-name");
	add(&a, "qvd%lld", (long long)m->vm->vm_id);
	add(&a, "-nodefaults");
	add(&a, "-no-user-config");
	add_option(&a, "-display", "none");
	add_option(&a, "-sandbox",
	    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
	    "resourcecontrol=deny");
	add_machine(&a, m);
	add_disks(&a, m);
	if (!m->pack) {
		add_network(&a, m);
		add_devices(&a, m);
		add_facts(&a, m);
	} else {
		add_option(&a, "-fw_cfg", "name=opt/org.qvd/pack,string=1");
		/* One that panics is at its end. */
		add(&a, "-no-reboot");
	}
	add_sockets(&a);
	add_boot(&a, m);
	return a.v;
}

void
kvm_args_free(char **args)
{
	char **p;

	for (p = args; *p != NULL; p++)
		free(*p);
	free(args);
}

char *
kvm_describe(const struct kvm_machine *m)
{
	return xasprintf("%s %s %lld MB %d CPUs %s",
	    m->microvm ? "microvm" : "q35", m->kvm ? "kvm" : "tcg",
	    (long long)m->vm->memory_mb, m->cpus, m->vm->address);
}

bool
kvm_cpu_can(const char *cpuinfo)
{
	const char *line = strstr(cpuinfo, "\nflags"), *p;
	size_t n;

	if (line == NULL)
		return false;
	for (p = line + 1; *p != '\0' && *p != '\n'; p += n) {
		p += strspn(p, " \t:");
		n = strcspn(p, " \t\n:");
		if (n == 3 &&
		    (strncmp(p, "vmx", 3) == 0 || strncmp(p, "svm", 3) == 0))
			return true;
	}
	return false;
}
