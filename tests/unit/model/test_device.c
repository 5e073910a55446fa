/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "model/device.h"

static struct err err;

static void
knows_its_words(void **state)
{
	static const struct {
		const char *text;
		unsigned devices;
	} good[] = { { "", 0 }, { " , ", 0 }, { "kvm", 1U << DEVICE_KVM },
		{ "render kvm", 1U << DEVICE_KVM | 1U << DEVICE_RENDER },
		{ ",tun, tun,", 1U << DEVICE_TUN } };
	static const char *const bad[] = { "/dev/kvm", "KVM", "sda", "kvm;tun",
		"kvm\ttun", "../kvm", "tu", "kvm sda",
		"kvmkvmkvmkvmkvmkvmkvmkvmkvmkvmkvm" };
	unsigned devices;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(good); i++) {
		assert_ok(device_parse(good[i].text, &devices, &err));
		assert_int_equal(devices, good[i].devices);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		devices = 77;
		assert_err(device_parse(bad[i], &devices, &err), PARAMETER,
		    "there are kvm, tun and render");
		assert_int_equal(devices, 77);
		assert_err(device_check(bad[i], &err), PARAMETER, "devices");
	}
}

/* The sentence lists them, and each fits where paths are built. */
static void
is_a_small_closed_list(void **state)
{
	int i;

	assert_err(device_check("x", &err), PARAMETER, "devices");
	for (i = 0; i < DEVICE_COUNT_; i++) {
		const struct device_kind *k = &device_kinds[i];

		assert_non_null(strstr(err.msg, device_to_str((enum device)i)));
		assert_true(strlen(k->path) < 24 && k->path[0] != '/');
		assert_null(strstr(k->path, ".."));
		assert_true(k->count >= 1 && k->count <= 16);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_its_words),
		cmocka_unit_test(is_a_small_closed_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
