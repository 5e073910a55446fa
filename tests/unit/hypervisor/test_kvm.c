/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "base/str.h"
#include "hypervisor/kvm_priv.h"
#include "json/json.h"

static const struct hv_node node = {
	.gateway = "10.88.0.1", .prefix = 16, .gateway6 = ""
};
static const struct hv_vm vm = {
	.vm_id = 7, .hostname = "desk", .address = "10.88.0.9", .memory_mb = 512
};

static struct kvm_machine
machine(void)
{
	struct kvm_machine m = { .node = &node, .vm = &vm, .cpus = 2 };
	int i;

	for (i = 0; i < KVM_FD_COUNT_; i++)
		m.fds[i] = -1;
	m.image.format = m.root.format = "qcow2";
	str_copy(m.secret, sizeof(m.secret), "TheSecretOfThisMachine");
	return m;
}

/* All arguments with spaces between. */
static char *
line_of(const struct kvm_machine *m)
{
	char **args = kvm_args(m), **p;
	char *line = xstrdup("");

	for (p = args; *p != NULL; p++) {
		char *more = xasprintf("%s%s ", line, *p);

		free(line);
		line = more;
	}
	kvm_args_free(args);
	return line;
}

static void
has(const struct kvm_machine *m, const char *part)
{
	_cleanup_(freep)
	char *line = line_of(m);

	if (strstr(line, part) == NULL)
		fail_msg("no '%s' in %s", part, line);
}

static void
lacks(const struct kvm_machine *m, const char *part)
{
	_cleanup_(freep)
	char *line = line_of(m);

	if (strstr(line, part) != NULL)
		fail_msg("'%s' in %s", part, line);
}

static void
is_what_was_asked_for(void **state)
{
	struct kvm_machine m = machine();

	has(&m, " -accel tcg,thread=multi,");
	has(&m, " -cpu max -m 512M -smp 2 ");
	has(&m, " virtio-net-pci,netdev=net0,mac=54:52:00:58:00:09,romfile= ");
	has(&m, "free-page-reporting=on");
	has(&m, "mem-merge=off");
	has(&m, "name=opt/org.qvd/address,string=10.88.0.9/16 ");
	has(&m, " -S ");
	lacks(&m, "-incoming");
	lacks(&m, "-kernel");
	m.kvm = m.restore = m.has_kernel = true;
	m.fds[KVM_FD_VHOST] = 5;
	str_copy(m.cmdline, sizeof(m.cmdline), "quiet");
	has(&m, " -accel kvm -cpu host ");
	has(&m, ",vhost=on,vhostfd=9 ");
	has(&m, " -kernel /kernel -append quiet ");
	has(&m, " -incoming defer ");
}

/* The guest lays its changes over the image, not QEMU. */
static void
is_made_of_a_tree(void **state)
{
	struct kvm_machine m = machine();

	has(&m, "\"backing\":\"image\"");
	lacks(&m, "serial=image");
	m.of_tree = m.has_kernel = true;
	m.image.format = m.root.format = "raw";
	has(&m, "drive=image,serial=image");
	has(&m, "drive=root,serial=root");
	lacks(&m, "backing");
	lacks(&m, "qcow2");
}

static void
microvm_has_no_pci(void **state)
{
	struct kvm_machine m = machine();

	m.microvm = m.has_kernel = true;
	has(&m, " -machine microvm,");
	has(&m, " virtio-blk-device,drive=root");
	has(&m, " -append  tsc_early_khz=1000000 ");
	lacks(&m, "-pci");
	lacks(&m, "-vnc");
}

/* Nothing can be reached from a network, nothing is guessed from what a guest
 * may write, and who sees the arguments learns no secret. */
static void
is_closed(void **state)
{
	struct kvm_machine m = machine();

	has(&m, "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
		"resourcecontrol=deny ");
	has(&m, " -nodefaults -no-user-config ");
	has(&m, "\"driver\":\"qcow2\",\"node-name\":\"image\",\"file\":"
		"\"image-file\",\"read-only\":true,\"backing\":null}");
	has(&m, "\"backing\":\"image\"");
	has(&m, "\"driver\":\"raw\",\"node-name\":\"home\"");
	has(&m, "-vnc none ");
	lacks(&m, m.secret);
	lacks(&m, ",port=");
	lacks(&m, "host=");
	lacks(&m, "/var/");
}

static void
knows_where_kvm_works(void **state)
{
	assert_true(kvm_cpu_can("processor\t: 0\nflags\t\t: fpu vmx sse\n"));
	assert_true(kvm_cpu_can("x: 1\nflags : fpu svm\n"));
	assert_false(kvm_cpu_can("x: 1\nflags\t\t: fpu vmx_x svm_lock\n"));
	assert_false(kvm_cpu_can("x: vmx\nflags\t: fpu\nbugs\t: svm\n"));
	assert_false(kvm_cpu_can(""));
}

static void
describes_what_a_state_depends_on(void **state)
{
	struct kvm_machine m = machine();
	_cleanup_(freep)
	char *text = kvm_describe(&m);

	assert_string_equal(text, "q35 tcg 512 MB 2 CPUs 10.88.0.9");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_what_was_asked_for),
		cmocka_unit_test(is_made_of_a_tree),
		cmocka_unit_test(microvm_has_no_pci),
		cmocka_unit_test(is_closed),
		cmocka_unit_test(knows_where_kvm_works),
		cmocka_unit_test(describes_what_a_state_depends_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
