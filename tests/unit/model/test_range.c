/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Addresses, id ranges, configuration keys, node.conf. */
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "model/config.h"
#include "model/node_conf.h"
#include "model/range.h"
#include "model/rows.h"

static void
test_net(void **state)
{
	static const char *const bad[] = { "", "10.88.0.1", "10.88.0.1/",
		"10.88.0.1/7", "10.88.0.1/31", "10.88.0/16", "x/16",
		"1111.1111.1111.1111/16", "10.88.0.1/16x" };
	char text[IPV4_TEXT_MAX];
	struct ipv4_range range;
	struct ipv4_net net;
	struct err err;
	size_t i;

	assert_int_equal(ipv4_net_parse("10.88.0.1/16", &net, &err), 0);
	assert_string_equal(ipv4_format(text, net.address), "10.88.0.1");
	assert_string_equal(ipv4_format(text, net.mask), "255.255.0.0");
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(
		    ipv4_net_parse(bad[i], &net, &err), -ERR_PARAMETER);
	assert_int_equal(ipv4_vm_range(&net, 0, &range, &err), 0);
	assert_string_equal(ipv4_format(text, range.first), "10.88.0.2");
	assert_string_equal(ipv4_format(text, range.last), "10.88.255.254");
	assert_int_equal(
	    ipv4_vm_range(&net, net.address, &range, &err), -ERR_CONFIG);
	assert_int_equal(
	    ipv4_vm_range(&net, 0x0a590001, &range, &err), -ERR_CONFIG);
}

static void
test_pick(void **state)
{
	const struct ipv4_range range = { 10, 12 };
	const uint32_t some[] = { 3, 10, 12 }, all[] = { 10, 11, 12 };
	struct err err;
	uint32_t a;

	assert_int_equal(ipv4_pick(&range, NULL, 0, &a, &err), 0);
	assert_int_equal(a, 10);
	assert_int_equal(ipv4_pick(&range, some, 3, &a, &err), 0);
	assert_int_equal(a, 11);
	assert_int_equal(ipv4_pick(&range, all, 3, &a, &err), -ERR_UNAVAILABLE);
}

/* Every default is a value that its own key accepts. */
static void
test_config_keys(void **state)
{
	const struct config_key *k;
	struct err err;

	for (k = config_keys; k->key != NULL; k++) {
		if (config_check(k, k->def, &err) < 0)
			fail_msg("%s", err.msg);
		assert_ptr_equal(config_find(k->key), k);
		assert_non_null(k->doc);
	}
	assert_null(config_find("vm.network"));
	k = config_find("hkd.lease");
	assert_int_equal(config_i64(k, NULL), 60000);
	assert_int_equal(config_i64(k, "2m"), 120000);
	assert_int_equal(config_i64(k, "1s"), 60000);
	assert_int_equal(config_check(k, "1s", &err), -ERR_PARAMETER);
	k = config_find("vm.network.nat");
	assert_false(config_bool(k, "no"));
	assert_true(config_bool(k, "perhaps"));
	assert_int_equal(config_check(k, "perhaps", &err), -ERR_PARAMETER);
	k = config_find("vm.network.dns");
	assert_int_equal(config_check(k, "", &err), 0);
	assert_int_equal(config_check(k, "9.9.9.9 2620:fe::fe", &err), 0);
	assert_int_equal(config_check(k, "dns", &err), -ERR_PARAMETER);
}

static void
test_node_conf(void **state)
{
	static const char text[] = "[node]\nname = n1\n[database]\n"
				   "conninfo = host=/tmp/pg dbname=qvd\n";
	char path[] = "/tmp/node-conf-XXXXXX";
	_cleanup_(closep)
	int fd = mkstemp(path);
	_cleanup_(freep)
	char *info = NULL, *run = NULL, *url = NULL;
	struct node_conf conf;
	struct err err;

	assert_true(fd >= 0);
	assert_int_equal(
	    write(fd, text, sizeof(text) - 1), (ssize_t)sizeof(text) - 1);
	if (node_conf_load(path, &conf, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(conf.name, "n1");
	assert_string_equal(conf.cgroup, "qvd");
	assert_string_equal(conf.netns, "");
	assert_int_equal(conf.l7r_auths, 2);
	info = node_conf_conninfo(&conf, "qvd_hkd");
	assert_string_equal(info,
	    "host=/tmp/pg dbname=qvd user=qvd_hkd "
	    "options='-c search_path=qvd -c timezone=UTC'");
	run = node_conf_run_path(&conf, "hkd.sock");
	assert_string_equal(run, "/run/qvd/hkd.sock");
	free(conf.database);
	conf.database = xstrdup("postgresql://db1,db2/qvd?sslmode=require");
	url = node_conf_conninfo(&conf, "qvd_hkd");
	assert_string_equal(url,
	    "postgresql://db1,db2/qvd?sslmode=require&user=qvd_hkd&options="
	    "-c%20search_path%3Dqvd%20-c%20timezone%3DUTC");
	node_conf_done(&conf);
	unlink(path);
	assert_int_equal(
	    node_conf_load("/nonexistent", &conf, &err), -ERR_CONFIG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_net),
		cmocka_unit_test(test_pick),
		cmocka_unit_test(test_config_keys),
		cmocka_unit_test(test_node_conf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
