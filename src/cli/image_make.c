/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Commands that make a new version: from a source, from a desktop, from a
 * recipe. */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/image.h"
#include "cli/recipe.h"
#include "cli/upload.h"
#include "json/json.h"

#define PATH_BYTES 4096

/* The farm does the work, so it outlives this command. */
#define GOES_ON                                                      \
	"What was asked for may have begun: 'qvd image list' shows " \
	"it.\n"
#define ID_GOES_ON                                                         \
	"The work on image # goes on: 'qvd image show #' says how far it " \
	"is, 'qvd image cancel #' ends it.\n"

/* The file is sent, and the upload takes its place in the body. */
static int
upload_source(struct cli *cli, json_t *body, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *upload = NULL;
	int r;

	r = upload_send(cli, json_get_str(body, "source", ""), &upload, err);
	if (r < 0)
		return r;
	json_object_del(body, "source");
	json_object_set(body, "upload_id", json_object_get(upload, "id"));
	return 0;
}

/* Posts the new image (body is taken) and waits for it, if that is wanted. */
static int
make_image(
    struct cli *cli, const struct values *values, json_t *body, struct err *err)
{
	bool wait = !value_flag(values, "--no-wait");
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	int r;

	if (value_flag(values, "--upload") &&
	    (r = upload_source(cli, body, err)) < 0) {
		json_decref(body);
		return r;
	}
	if (value_flag(values, "--no-publish"))
		json_object_set_new(body, "hold", json_true());
	if (wait)
		interrupt_begin(GOES_ON, ID_GOES_ON);
	r = api_call(cli, "POST", wait ? "/v1/images?wait=1" : "/v1/images",
	    body, &answer, err);
	interrupt_end();
	if (r < 0)
		return r;
	print_done(cli, values->noun, answer);
	return 0;
}

int
run_image_import(struct cli *cli, const struct values *values, struct err *err)
{
	json_t *body;
	int r;

	if ((r = values_body(cli, values, &body, err)) < 0)
		return r;
	return make_image(cli, values, body, err);
}

int
run_image_commit(struct cli *cli, const struct values *values, struct err *err)
{
	return run_image_import(cli, values, err);
}

/* Where images/build is: beside the recipe, if that is a folder, else where
 * recipes are installed, or are in the tree that this was built from. */
static int
find_builder(const char *recipe, char *ret_dir, size_t size,
    const char **ret_name, struct err *err)
{
	static const char *const places[] = { QVD_IMAGESDIR,
		QVD_SOURCE_IMAGES };
	const char *slash = strrchr(recipe, '/');
	size_t i;

	if (slash != NULL) {
		*ret_name = slash + 1;
		snprintf(ret_dir, size, "%.*s", (int)(slash - recipe), recipe);
		return 0;
	}
	*ret_name = recipe;
	for (i = 0; i < ARRAY_SIZE(places); i++) {
		_cleanup_(freep)
		char *make = xasprintf("%s/%s/make", places[i], recipe);

		if (!fs_exists(make))
			continue;
		str_copy(ret_dir, size, places[i]);
		return 0;
	}
	return err_set(err, ERR_NOT_FOUND,
	    "no recipe '%s' in %s; name the folder of another, such as "
	    "./images/%s",
	    recipe, places[0], recipe);
}

int
run_image_build(struct cli *cli, const struct values *values, struct err *err)
{
	const char *out = value_get(values, "--output"), *name;
	char dir[PATH_BYTES], tar[PATH_BYTES];
	_cleanup_(freep)
	char *builder = NULL;
	struct recipe recipe;
	json_t *body;
	int r;

	if ((r = find_builder(value_get(values, "RECIPE"), dir, sizeof(dir),
		 &name, err)) < 0)
		return r;
	builder = xasprintf("%s/build", dir);
	recipe =
	    (struct recipe){ builder, name, out != NULL ? out : QVD_BUILDSDIR,
		    value_flag(values, "--fresh") };
	r = recipe_build(cli, &recipe, tar, sizeof(tar), err);
	if (r < 0 || (r = values_body(cli, values, &body, err)) < 0)
		return r;
	json_object_set_new(body, "source", json_string(tar));
	if (json_object_get(body, "message") == NULL)
		json_object_set_new(body, "message",
		    json_string(
			arena_printf(cli->arena, "Recipe %s, %s", name, tar)));
	return make_image(cli, values, body, err);
}
