/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdio.h>
#include <sys/sysinfo.h>

#include "base/mem.h"
#include "base/str.h"
#include "hkd/node.h"
#include "model/config.h"

const struct db_stmt settings_stmt = { "settings",
	"SELECT key, value FROM host_configs WHERE host_id = $1::int "
	"UNION ALL SELECT key, value FROM configs c WHERE tenant_id = 0 "
	"AND NOT EXISTS (SELECT FROM host_configs h "
	"WHERE h.host_id = $1::int AND h.key = c.key)",
	1 };

/* The valid text: the row's, else the default. True if it is another. */
static bool
take_text(char **at, const struct db_result *res, const char *name)
{
	const char *value = config_text(
	    config_find(name), db_lookup(res, "key", name, "value"));

	if (*at != NULL && str_eq(*at, value))
		return false;
	free(*at);
	*at = xstrdup(value);
	return true;
}

static int64_t
take_number(const struct db_result *res, const char *name)
{
	return config_i64(
	    config_find(name), db_lookup(res, "key", name, "value"));
}

static bool
take_storage(struct node_settings *s, const struct db_result *res)
{
	enum home_store home = take_number(res, "node.storage.home");
	enum root_store root = take_number(res, "node.storage.root");
	int64_t root_mb = take_number(res, "node.storage.root.mb");
	bool changed = home != s->home_store || root != s->root_store ||
		       root_mb != s->root_mb;

	s->home_store = home;
	s->root_store = root;
	s->root_mb = root_mb;
	s->root_keep_ms = take_number(res, "node.storage.root.keep");
	return changed;
}

void
settings_take(struct node_settings *s, const struct db_result *res,
    struct settings_changes *ret)
{
	bool nat = take_number(res, "vm.network.nat") != 0;
	char name[40];
	int i;
	int packets = (int)take_number(res, "vm.network.packets");
	bool changed = nat != s->nat || packets != s->packets;

	s->nat = nat;
	s->packets = packets;
	changed |= take_text(&s->bridge, res, "vm.network.bridge");
	changed |= take_text(&s->gateway, res, "vm.network.gateway");
	changed |= take_text(&s->gateway6, res, "vm.network.gateway6");
	changed |= take_text(&s->dns, res, "vm.network.dns");
	take_text(&s->egress, res, "vm.network.egress");
	s->accel = take_number(res, "vm.kvm.accel");
	s->machine = take_number(res, "vm.kvm.machine");
	for (i = 0; i < HOST_HOOK_COUNT_; i++) {
		snprintf(name, sizeof(name), "hkd.hook.%s",
		    host_hook_to_str((enum host_hook)i));
		take_text(&s->hooks[i], res, name);
	}
	s->hook_ms = take_number(res, "hkd.hook.deadline");
	s->grace_ms = take_number(res, "vm.stop.grace");
	s->lease_ms = take_number(res, "hkd.lease");
	s->look_ms = take_number(res, "node.storage.look");
	s->images_kbit = take_number(res, "node.images.kbit");
	s->starts = (int)take_number(res, "hkd.starts");
	if (s->starts == 0)
		s->starts = 4 * get_nprocs();
	ret->network = changed;
	ret->storage = take_storage(s, res);
}

const char *
settings_accel(const struct node_settings *s, enum osf_accel osf)
{
	return osf == OSF_ACCEL_NODE ? vm_accel_to_str(s->accel)
				     : osf_accel_to_str(osf);
}

void
settings_init(struct node_settings *s)
{
	struct settings_changes unused;

	settings_take(s, NULL, &unused);
}

void
settings_done(struct node_settings *s)
{
	int i;

	free(s->bridge);
	free(s->gateway);
	free(s->gateway6);
	for (i = 0; i < HOST_HOOK_COUNT_; i++)
		free(s->hooks[i]);
	free(s->dns);
	free(s->egress);
}
