/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/config.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/egress.h"
#include "model/range.h"
#include "model/resolvers.h"
#include "model/states.h"

#define SECOND (INT64_C(1000))
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

const struct config_key config_keys[] = {
	{ "vm.network.bridge", CONFIG_STR, "qvdnet0", 1, 15, CONFIG_FARM,
	    "The bridge that a node's desktops are on." },
	{ "vm.network.gateway", CONFIG_NET, "10.88.0.1/16", 0, 0, CONFIG_FARM,
	    "The bridge's address and network; the desktops' gateway." },
	{ "vm.network.ip.start", CONFIG_ADDRESS, "10.88.1.0", 0, 0, CONFIG_FARM,
	    "The lowest address that a desktop gets; empty: the one after "
	    "the gateway." },
	{ "vm.network.nat", CONFIG_BOOL, "yes", 0, 0, CONFIG_FARM,
	    "Whether desktops reach other networks under the node's "
	    "address." },
	{ "vm.network.dns", CONFIG_RESOLVERS, "", 0, 0, CONFIG_FARM,
	    "The name servers of the desktops, up to four addresses, and the "
	    "only ones that they can ask; empty: the node." },
	{ "vm.network.gateway6", CONFIG_NET6, "", 0, 0, CONFIG_FARM,
	    "The bridge's IPv6 address and network (/64 to /96, such as "
	    "fd00:88::1/64); a desktop's IPv6 address ends with its IPv4 "
	    "address. Empty: no IPv6 for desktops." },
	{ "vm.network.egress", CONFIG_EGRESS, EGRESS_DEFAULT, 0, 0, CONFIG_FARM,
	    "What desktops may reach whose OSF and tenant have no policy of "
	    "their own (see EGRESS POLICIES)." },
	{ "vm.network.packets", CONFIG_INT, "20000", 0, 1000000, CONFIG_FARM,
	    "Packets a second that a desktop may send; what is more is "
	    "dropped. 0: no limit." },
	{ "vm.stop.grace", CONFIG_DURATION, "20s", 0, 10 * MINUTE, CONFIG_FARM,
	    "How long a desktop may take to stop before it is killed." },
	{ "hkd.starts", CONFIG_INT, "0", 0, 1000, CONFIG_PER_HOST,
	    "Desktops that a node starts at once where nothing presses, fewer "
	    "where CPU, memory or disk are short; 0: four a CPU." },
	{ "hkd.hook.prestart", CONFIG_STR, "", 0, 64, CONFIG_FARM,
	    "Program in [paths] hooks that is run as root before a desktop "
	    "starts, and can refuse it (see qvd-hkd(8)). Empty: none." },
	{ "hkd.hook.poststart", CONFIG_STR, "", 0, 64, CONFIG_FARM,
	    "The same once a desktop runs." },
	{ "hkd.hook.poststop", CONFIG_STR, "", 0, 64, CONFIG_FARM,
	    "The same when nothing of a desktop is left." },
	{ "hkd.hook.deadline", CONFIG_DURATION, "30s", SECOND, 10 * MINUTE,
	    CONFIG_FARM,
	    "How long such a program may take before it is killed." },
	{ "hkd.lease", CONFIG_DURATION, "60s", 5 * SECOND, HOUR, CONFIG_FARM,
	    "How long a node's word that it runs is good; renewed at a third "
	    "of it." },
	{ "l7r.auth.tenant", CONFIG_STR, "default", 1, 64, CONFIG_FARM,
	    "The tenant of logins without one." },
	{ "l7r.auth.separators", CONFIG_STR, "@#", 1, 8, CONFIG_FARM,
	    "Between login and tenant." },
	{ "l7r.timeout.start", CONFIG_DURATION, "270s", SECOND, HOUR,
	    CONFIG_FARM,
	    "How long a connection waits for its desktop to run." },
	{ "l7r.timeout.stop", CONFIG_DURATION, "270s", SECOND, HOUR,
	    CONFIG_FARM, "How long stop_vm waits." },
	{ "l7r.timeout.session", CONFIG_DURATION, "180s", SECOND, HOUR,
	    CONFIG_FARM, "How long a connection waits for the X session." },
	{ "l7r.token.lifetime", CONFIG_DURATION, "24h", MINUTE, 240 * HOUR,
	    CONFIG_FARM, "How long a token of create_auth_token is good." },
	{ "node.storage.home", CONFIG_HOME_STORE, "auto", 0, 0, CONFIG_PER_HOST,
	    "What a node keeps new homes in: image (ext4 in a sparse file), "
	    "btrfs (a subvolume), project (a directory with a project quota), "
	    "directory (no limit); auto: image for a home with a limit, else "
	    "directory. Homes that are there stay what they are." },
	{ "node.storage.root", CONFIG_ROOT_STORE, "overlay", 0, 0,
	    CONFIG_PER_HOST,
	    "What a node keeps the systems of its containers in: overlay (an "
	    "image's files are once on disk and once in memory), or btrfs "
	    "(once on disk, in memory once a desktop)." },
	{ "node.storage.root.mb", CONFIG_INT, "0", 0, INT32_MAX,
	    CONFIG_PER_HOST,
	    "How much a desktop may change in its system, MiB; 0: no limit. "
	    "An overlay's changes are then in a file system of that size, "
	    "which grows with the setting and never shrinks." },
	{ "node.storage.root.keep", CONFIG_DURATION, "7d", 0, 400 * DAY,
	    CONFIG_PER_HOST,
	    "How long a desktop's changes to a version of its image are kept "
	    "that it doesn't start from any more." },
	{ "node.storage.look", CONFIG_DURATION, "60s", SECOND, HOUR,
	    CONFIG_PER_HOST,
	    "How often a node looks how full its disks are, and those of the "
	    "desktops that run." },
	{ "node.images.kbit", CONFIG_INT, "0", 0, 100000000, CONFIG_PER_HOST,
	    "How many kbit a second a node may take from another when it gets "
	    "an image; 0: no limit." },
	{ "vm.kvm.accel", CONFIG_VM_ACCEL, "auto", 0, 0, CONFIG_PER_HOST,
	    "What runs the CPU of virtual machines: kvm (the node's CPU "
	    "itself), tcg (emulated, many times slower); auto: kvm where "
	    "/dev/kvm opens and the CPU has vmx or svm, else tcg." },
	{ "vm.kvm.machine", CONFIG_VM_MACHINE, "q35", 0, 0, CONFIG_PER_HOST,
	    "The machine of virtual machines: q35 (a PC with a screen, boots "
	    "from its disk), or microvm (no PCI, no screen; boots only the "
	    "image's own kernel, in less time and memory)." },
	{ "vm.kvm.merge", CONFIG_BOOL, "no", 0, 0, CONFIG_PER_TENANT,
	    "Whether equal memory of virtual machines becomes one (KSM, where "
	    "the node runs it). It saves memory, and lets one machine find out "
	    "by timing what another has in its own." },
	{ .key = NULL },
};

const struct config_key *
config_find(const char *key)
{
	const struct config_key *k;

	for (k = config_keys; k->key != NULL; k++)
		if (str_eq(k->key, key))
			return k;
	return NULL;
}

static bool
in_range(const struct config_key *k, int64_t v)
{
	return v >= k->min && v <= k->max;
}

static const struct enum_words *
words_of(const struct config_key *k)
{
	switch (k->type) {
	case CONFIG_HOME_STORE:
		return &home_store_words;
	case CONFIG_ROOT_STORE:
		return &root_store_words;
	case CONFIG_VM_ACCEL:
		return &vm_accel_words;
	default:
		return &vm_machine_words;
	}
}

static bool
value_ok(const struct config_key *k, const char *value, int64_t *ret)
{
	struct ipv4_net net;
	struct ipv6_net net6;
	struct resolvers resolvers;
	uint32_t address;
	int64_t v = 0;
	bool b = false;
	int word;

	switch (k->type) {
	case CONFIG_STR:
		return str_is_text(value, (size_t)k->max) &&
		       strlen(value) >= (size_t)k->min;
	case CONFIG_INT:
		return str_to_i64(value, k->min, k->max, ret);
	case CONFIG_BOOL:
		if (!str_to_bool(value, &b))
			return false;
		*ret = b;
		return true;
	case CONFIG_DURATION:
		if (!str_to_duration(value, &v) || !in_range(k, v))
			return false;
		*ret = v;
		return true;
	case CONFIG_NET:
		return ipv4_net_parse(value, &net, NULL) == 0;
	case CONFIG_ADDRESS:
		return value[0] == '\0' ||
		       ipv4_parse(value, &address, NULL) == 0;
	case CONFIG_RESOLVERS:
		return resolvers_parse(value, &resolvers, NULL) == 0;
	case CONFIG_NET6:
		return value[0] == '\0' ||
		       ipv6_net_parse(value, &net6, NULL) == 0;
	case CONFIG_EGRESS:
		return value[0] != '\0' && egress_check(value, NULL) == 0;
	case CONFIG_HOME_STORE:
	case CONFIG_ROOT_STORE:
	case CONFIG_VM_ACCEL:
	case CONFIG_VM_MACHINE:
		if (!enum_from_str(words_of(k), value, &word))
			return false;
		*ret = word;
		return true;
	}
	return false;
}

static int
refuse_word(const struct config_key *k, struct err *err)
{
	const struct enum_words *all = words_of(k);
	char words[256] = "";
	size_t n = 0;
	int i;

	for (i = 0; i < all->count; i++)
		n += (size_t)snprintf(words + n, sizeof(words) - n, "%s%s",
		    i == 0 ? "" : ", ", all->words[i]);
	return err_set(err, ERR_PARAMETER, "%s is one of %s", k->key, words);
}

int
config_check(const struct config_key *k, const char *value, struct err *err)
{
	int64_t v;

	if (value_ok(k, value, &v))
		return 0;
	switch (k->type) {
	case CONFIG_STR:
		return err_set(err, ERR_PARAMETER,
		    "%s is text of %lld to %lld bytes", k->key,
		    (long long)k->min, (long long)k->max);
	case CONFIG_INT:
		return err_set(err, ERR_PARAMETER,
		    "%s is a number from %lld to %lld", k->key,
		    (long long)k->min, (long long)k->max);
	case CONFIG_DURATION:
		return err_set(err, ERR_PARAMETER,
		    "%s is a time like 30s, 5m or 2h, from %lld to %lld "
		    "seconds",
		    k->key, (long long)(k->min / SECOND),
		    (long long)(k->max / SECOND));
	case CONFIG_BOOL:
		return err_set(err, ERR_PARAMETER, "%s is yes or no", k->key);
	case CONFIG_NET:
		return err_set(err, ERR_PARAMETER,
		    "%s is an address with its network like %s", k->key,
		    k->def);
	case CONFIG_ADDRESS:
		return err_set(err, ERR_PARAMETER,
		    "%s is an IPv4 address, or empty", k->key);
	case CONFIG_RESOLVERS: {
		struct resolvers resolvers;

		return err_wrap(
		    err, resolvers_parse(value, &resolvers, err), "%s", k->key);
	}
	case CONFIG_NET6:
		return err_set(err, ERR_PARAMETER,
		    "%s is an IPv6 address with its network like "
		    "fd00:88::1/64 (from /64 to /96), or empty",
		    k->key);
	case CONFIG_EGRESS: {
		struct egress egress;

		return err_wrap(
		    err, egress_parse(value, &egress, err), "%s", k->key);
	}
	case CONFIG_HOME_STORE:
	case CONFIG_ROOT_STORE:
	case CONFIG_VM_ACCEL:
	case CONFIG_VM_MACHINE:
		return refuse_word(k, err);
	}
	return err_set(err, ERR_INTERNAL, "%s has no type", k->key);
}

const char *
config_text(const struct config_key *k, const char *value)
{
	int64_t v;

	return value != NULL && value_ok(k, value, &v) ? value : k->def;
}

int64_t
config_i64(const struct config_key *k, const char *value)
{
	int64_t v = 0;

	if (value == NULL || !value_ok(k, value, &v))
		value_ok(k, k->def, &v);
	return v;
}

bool
config_bool(const struct config_key *k, const char *value)
{
	return config_i64(k, value) != 0;
}
