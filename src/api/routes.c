/* SPDX-License-Identifier: GPL-3.0-or-later */
/* All that the API can be asked. The bodies' members and their limits are
 * the field tables of the resources. */
#include "api/api.h"

#define ADMIN(method_, path_, handler_, action_, resource_)            \
	{                                                              \
		.method = (method_), .path = (path_),                  \
		.permission = PERMISSION_ADMIN, .handler = (handler_), \
		.action = (action_), .resource = (resource_)           \
	}

#define CRUD(name_, word_, add_)                                              \
	ADMIN("GET", "/v1/" name_, resource_list, NULL, &resource_##word_),   \
	    ADMIN(                                                            \
		"POST", "/v1/" name_, add_, name_ ".add", &resource_##word_), \
	    ADMIN("GET", "/v1/" name_ "/{id}", resource_get, NULL,            \
		&resource_##word_),                                           \
	    ADMIN("PATCH", "/v1/" name_ "/{id}", resource_set, name_ ".set",  \
		&resource_##word_),                                           \
	    ADMIN("DELETE", "/v1/" name_ "/{id}", resource_del, name_ ".del", \
		&resource_##word_),                                           \
	    ADMIN("GET", "/v1/" name_ "/{id}/events", resource_events, NULL,  \
		&resource_##word_)

/* clang-format off */
const struct route routes[] = {
	{ .method = "GET", .path = "/v1", .permission = PERMISSION_ANY,
	    .handler = about },
	CRUD("tenants", tenants, resource_add),
	CRUD("users", users, user_add),
	ADMIN("PUT", "/v1/users/{id}/password", user_password,
	    "users.password", &resource_users),
	CRUD("osfs", osfs, resource_add),
	CRUD("images", images, image_add),
	ADMIN("PUT", "/v1/images/{id}/tags/{tag}", image_tag, "images.tag",
	    &resource_images),
	ADMIN("DELETE", "/v1/images/{id}/tags/{tag}", image_untag,
	    "images.untag", &resource_images),
	ADMIN("POST", "/v1/osfs/{id}/rollback", image_rollback,
	    "images.rollback", &resource_rollbacks),
	ADMIN("GET", "/v1/rollouts", resource_list, NULL, &resource_rollouts),
	ADMIN("POST", "/v1/rollouts", rollout_add, "rollouts.add",
	    &resource_rollouts),
	ADMIN("GET", "/v1/rollouts/{id}", resource_get, NULL,
	    &resource_rollouts),
	ADMIN("POST", "/v1/rollouts/{id}/halt", rollout_halt, "rollouts.halt",
	    &resource_rollouts),
	ADMIN("POST", "/v1/rollouts/{id}/resume", rollout_resume,
	    "rollouts.resume", &resource_rollouts),
	ADMIN("POST", "/v1/rollouts/{id}/widen", rollout_widen,
	    "rollouts.widen", &resource_rollouts),
	ADMIN("POST", "/v1/images/{id}/publish", image_publish,
	    "images.publish", &resource_images),
	ADMIN("POST", "/v1/images/{id}/retire", image_retire,
	    "images.retire", &resource_images),
	ADMIN("POST", "/v1/images/{id}/cancel", image_cancel,
	    "images.cancel", &resource_images),
	ADMIN("GET", "/v1/images/{id}/diff", image_diff, NULL,
	    &resource_images),
	ADMIN("POST", "/v1/images/{id}/verify", image_verify, NULL,
	    &resource_images),
	ADMIN("POST", "/v1/images/{id}/export", image_export, NULL,
	    &resource_images),
	ADMIN("POST", "/v1/images/gc", images_gc, "images.gc",
	    &resource_images),
	ADMIN("GET", "/v1/distributions", resource_list, NULL,
	    &resource_distributions),
	ADMIN("GET", "/v1/uploads", resource_list, NULL, &resource_uploads),
	ADMIN("POST", "/v1/uploads", upload_add, "uploads.add",
	    &resource_uploads),
	ADMIN("GET", "/v1/uploads/{id}", resource_get, NULL,
	    &resource_uploads),
	{ .method = "PUT", .path = "/v1/uploads/{id}/data",
	    .permission = PERMISSION_ADMIN, .handler = upload_put,
	    .resource = &resource_uploads, .takes_bytes = true },
	ADMIN("DELETE", "/v1/uploads/{id}", resource_del, "uploads.del",
	    &resource_uploads),
	CRUD("vms", vms, vm_add),
	ADMIN("POST", "/v1/vms/{id}/start", vm_start, "vms.start",
	    &resource_vms),
	ADMIN("POST", "/v1/vms/{id}/stop", vm_stop, "vms.stop",
	    &resource_vms),
	ADMIN("POST", "/v1/vms/{id}/suspend", vm_suspend, "vms.suspend",
	    &resource_vms),
	ADMIN("POST", "/v1/vms/{id}/console", vm_stream, "vms.console",
	    &resource_vms),
	ADMIN("POST", "/v1/vms/{id}/screen", vm_stream, "vms.screen",
	    &resource_vms),
	ADMIN("GET", "/v1/homes", resource_list, NULL, &resource_homes),
	ADMIN("GET", "/v1/homes/{id}", resource_get, NULL, &resource_homes),
	ADMIN("POST", "/v1/homes/{id}/look", home_act, "homes.look",
	    &resource_homes),
	ADMIN("POST", "/v1/homes/{id}/snapshot", home_act, "homes.snapshot",
	    &resource_homes),
	ADMIN("POST", "/v1/homes/{id}/restore", home_act, "homes.restore",
	    &resource_homes),
	ADMIN("POST", "/v1/homes/{id}/forget", home_act, "homes.forget",
	    &resource_homes),
	ADMIN("POST", "/v1/homes/{id}/grow", home_act, "homes.grow",
	    &resource_homes),
	ADMIN("POST", "/v1/homes/{id}/convert", home_act, "homes.convert",
	    &resource_homes),
	ADMIN("POST", "/v1/vms/{id}/expire", vm_expire, "vms.expire",
	    &resource_expiries),
	CRUD("hosts", hosts, resource_add),
	ADMIN("POST", "/v1/hosts/{id}/repair", host_repair, "hosts.repair",
	    &resource_hosts),
	ADMIN("GET", "/v1/hosts/{id}/usage", host_usage, NULL,
	    &resource_hosts),
	ADMIN("GET", "/v1/sessions", session_list, NULL, NULL),
	ADMIN("POST", "/v1/sessions/{id}/disconnect", session_disconnect,
	    "sessions.disconnect", &resource_vms),
	ADMIN("GET", "/v1/configs", config_list, NULL, NULL),
	ADMIN("GET", "/v1/configs/{key}", config_get, NULL, NULL),
	ADMIN("PUT", "/v1/configs/{key}", config_set, "configs.set", NULL),
	ADMIN("DELETE", "/v1/configs/{key}", config_unset, "configs.unset",
	    NULL),
	ADMIN("GET", "/v1/events", event_list, NULL, NULL),
	{ .method = NULL },
};
/* clang-format on */
