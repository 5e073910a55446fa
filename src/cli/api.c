/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Requests to the API over its unix socket (libcurl). */
#include <curl/curl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "json/json.h"
#include "net/http.h"

#define ANSWER_MAX ((size_t)128 * 1024 * 1024)

static const struct {
	const char *collection;
	const char *word;
} objects[ARG_TYPE_COUNT_] = {
	[ARG_TENANT] = { "/v1/tenants", "tenant" },
	[ARG_USER] = { "/v1/users", "user" },
	[ARG_OSF] = { "/v1/osfs", "OSF" },
	[ARG_IMAGE] = { "/v1/images", "image" },
	[ARG_VM] = { "/v1/vms", "VM" },
	[ARG_HOST] = { "/v1/hosts", "host" },
	[ARG_ROLLOUT] = { "/v1/rollouts", "rollout" },
	[ARG_UPLOAD] = { "/v1/uploads", "upload" },
};

const char *
api_collection(enum arg_type type)
{
	return objects[type].collection;
}

const char *
api_object_word(enum arg_type type)
{
	return objects[type].word;
}

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	struct buf *body = arg;

	return buf_append(body, data, size * n) ? size * n : 0;
}

/* The value, if it is a header of that name ("Location:"); heap. */
static char *
header_value(const char *data, size_t len, const char *name)
{
	size_t skip = strlen(name);

	if (len <= skip || strncasecmp(data, name, skip) != 0)
		return NULL;
	while (skip < len && data[skip] == ' ')
		skip++;
	while (len > skip && (data[len - 1] == '\n' || data[len - 1] == '\r'))
		len--;
	return xstrndup(data + skip, len - skip);
}

/* Interim answers tell how far a held request has got, and what it is about:
 * "/v1/images/7". */
static size_t
on_header(char *data, size_t size, size_t n, void *arg)
{
	struct cli *cli = arg;
	_cleanup_(freep)
	char *text = header_value(data, size * n, "X-QVD-Progress:");
	_cleanup_(freep)
	char *object = header_value(data, size * n, "Location:");
	int64_t id;

	if (text != NULL)
		progress_show(cli, text_clean(cli, text));
	if (object != NULL && strrchr(object, '/') != NULL &&
	    str_to_i64(strrchr(object, '/') + 1, 1, INT64_MAX, &id))
		interrupt_id(id);
	return size * n;
}

/* jansson can't wipe what it frees. */
static void
wipe_password(json_t *body)
{
	const char *s = json_get_str(body, "password", NULL);

	if (s != NULL)
		explicit_bzero((void *)(uintptr_t)s, strlen(s));
}

static int
transport_error(struct cli *cli, CURLcode code, struct err *err)
{
	switch (code) {
	case CURLE_COULDNT_CONNECT:
		if (access(cli->socket, W_OK) < 0 && fs_exists(cli->socket))
			return err_set(err, ERR_FORBIDDEN,
			    "not allowed to use the API's socket '%s'; run "
			    "as root",
			    cli->socket);
		return err_set(err, ERR_UNAVAILABLE,
		    "no API answers on '%s'; is the farm running here "
		    "('qvd up')? Name another socket with --socket",
		    cli->socket);
	case CURLE_WRITE_ERROR:
		return err_set(err, ERR_TOO_LARGE,
		    "the answer is longer than %zu MiB; ask for less",
		    ANSWER_MAX >> 20);
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
		return err_set(err, ERR_NETWORK,
		    "the API ended before it answered; see its log, then "
		    "look whether it was done");
	default:
		return err_set(err, ERR_NETWORK, "request to the API: %s",
		    curl_easy_strerror(code));
	}
}

static int
prepare(struct cli *cli, const char *method, const char *path, const void *body,
    size_t len, struct buf *answer, struct err *err)
{
	char url[4096];
	CURL *c;

	if (cli->curl == NULL && (cli->curl = curl_easy_init()) == NULL)
		return err_set(err, ERR_INTERNAL, "curl can't be set up");
	c = cli->curl;
	curl_easy_reset(c);
	if (snprintf(url, sizeof(url), "http://qvd%s", path) >=
	    (int)sizeof(url))
		return err_set(err, ERR_USAGE, "the arguments are too long");
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, cli->socket);
	curl_easy_setopt(c, CURLOPT_PROXY, "");
	curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, answer);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, cli);
	if (body != NULL) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(
		    c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
	}
	return 0;
}

static int
finish(struct cli *cli, struct buf *answer, json_t **ret, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *value = NULL;
	long status = 0;

	curl_easy_getinfo(cli->curl, CURLINFO_RESPONSE_CODE, &status);
	if (buf_len(answer) > 0 &&
	    json_parse(buf_head(answer), buf_len(answer), &value, err) < 0)
		return err_set(err, ERR_PROTOCOL,
		    "what answers on '%s' is not QVD's API (status %ld)",
		    cli->socket, status);
	if (status >= 400) {
		if (value == NULL)
			return err_set(err, ERR_PROTOCOL,
			    "the API answered %ld without a reason", status);
		return json_to_err(value, err);
	}
	if (ret != NULL)
		*ret = value != NULL ? json_incref(value) : json_object();
	return 0;
}

static int
call(struct cli *cli, const char *method, const char *path,
    const char *content_type, const void *body, size_t len, json_t **ret,
    struct err *err)
{
	_cleanup_(buf_done)
	struct buf answer = BUF(ANSWER_MAX);
	struct curl_slist *headers = NULL;
	CURLcode code;
	int r;

	if ((r = prepare(cli, method, path, body, len, &answer, err)) < 0)
		return r;
	headers = curl_slist_append(headers, content_type);
	headers = curl_slist_append(headers, "Expect:");
	curl_easy_setopt(cli->curl, CURLOPT_HTTPHEADER, headers);
	code = curl_easy_perform(cli->curl);
	r = code != CURLE_OK ? transport_error(cli, code, err)
			     : finish(cli, &answer, ret, err);
	curl_easy_setopt(cli->curl, CURLOPT_HTTPHEADER, NULL);
	curl_slist_free_all(headers);
	return r;
}

int
api_send(struct cli *cli, const char *path, const void *data, size_t len,
    json_t **ret, struct err *err)
{
	return call(cli, "PUT", path, "Content-Type: application/octet-stream",
	    data, len, ret, err);
}

int
api_call(struct cli *cli, const char *method, const char *path, json_t *body,
    json_t **ret, struct err *err)
{
	char *text = NULL;
	int r;

	if (body != NULL)
		text = json_text(body);
	r = call(cli, method, path, "Content-Type: application/json", text,
	    text == NULL ? 0 : strlen(text), ret, err);
	progress_show(cli, "");
	wipe_str(text);
	if (body != NULL) {
		wipe_password(body);
		json_decref(body);
	}
	return r;
}

const char *
api_path(struct cli *cli, const struct noun *noun, int64_t id, const char *rest)
{
	return arena_printf(cli->arena, "%s/%" PRId64 "%s", noun->path, id,
	    rest != NULL ? rest : "");
}

/* What to say when a name fits several: their full names. */
static int
ambiguous(
    const char *word, const char *text, const json_t *items, struct err *err)
{
	_cleanup_(buf_done)
	struct buf list = BUF(300);
	json_t *item;
	size_t i;

	json_array_foreach (items, i, item)
		buf_printf(&list, "%s%s (%" PRId64 ")", i > 0 ? ", " : "",
		    object_name(item), json_get_int(item, "id", 0));
	return err_set(err, ERR_CONFLICT,
	    "'%s' names more than one %s: %.*s; say which, or give the id",
	    text, word, (int)buf_len(&list), buf_head(&list));
}

int
api_id(struct cli *cli, enum arg_type type, const char *text, int64_t *ret,
    struct err *err)
{
	_cleanup_(freep)
	char *encoded = NULL;
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	const json_t *items;
	int r;

	if (str_to_i64(text, 1, INT32_MAX, ret))
		return 0;
	encoded = http_encode(text);
	r = api_call(cli, "GET",
	    arena_printf(
		cli->arena, "%s?ref=%s", objects[type].collection, encoded),
	    NULL, &answer, err);
	if (r < 0)
		return r;
	items = json_object_get(answer, "items");
	if (json_array_size(items) == 0)
		return err_set(err, ERR_NOT_FOUND,
		    "no %s '%s'; 'qvd %s list' lists them", objects[type].word,
		    text,
		    type == ARG_VM    ? "vm"
		    : type == ARG_OSF ? "osf"
				      : objects[type].word);
	if (json_array_size(items) > 1)
		return ambiguous(objects[type].word, text, items, err);
	*ret = json_get_int(json_array_get(items, 0), "id", 0);
	return 0;
}
