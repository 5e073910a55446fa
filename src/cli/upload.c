/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qvd upload: sends the source of an image from where the administrator is to
 * the API's node. A file is known by its SHA-256, so that the same command
 * goes on with what was broken off; and it goes on by itself while the API is
 * away for a moment.
 */
#include "cli/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "cli/nouns.h"
#include "json/json.h"
#include "model/rows.h"

#define AWAY_MAX_MS (60 * 1000) /* of the API */
#define GOES_ON                                                               \
	"What has arrived is kept for 7 days: the same command goes on from " \
	"there, 'qvd upload del' removes it.\n"

struct sending {
	struct cli *cli;
	int fd;
	char name[UPLOAD_NAME_BYTES_MAX + 1];
	int64_t size;
	char sha256[2 * EVP_MAX_MD_SIZE + 1];
	char *piece; /* of UPLOAD_PIECE_BYTES_MAX */
	json_t *upload;
};

static void
sending_done(struct sending *s)
{
	closep(&s->fd);
	free(s->piece);
	json_decref(s->upload);
}

/* The file's name as it is called there: what is no letter, digit, _ . or - is
 * an underscore. */
static void
name_it(struct sending *s, const char *file)
{
	const char *slash = strrchr(file, '/');
	const char *base = slash != NULL ? slash + 1 : file;
	size_t len = strlen(base), i;

	/* Its end says what it is. */
	if (len > UPLOAD_NAME_BYTES_MAX)
		base += len - UPLOAD_NAME_BYTES_MAX;
	str_copy(s->name, sizeof(s->name), base);
	for (i = 0; s->name[i] != '\0'; i++) {
		const char one[] = { s->name[i], '\0' };

		if (!str_is_name(one, 1) &&
		    (i == 0 || strchr(".-", one[0]) == NULL))
			s->name[i] = '_';
	}
}

static int
open_file(struct sending *s, const char *file, struct err *err)
{
	struct stat st;

	s->fd = open(file, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0 || fstat(s->fd, &st) < 0)
		return err_errno(err, ERR_NOT_FOUND, errno, "open %s", file);
	if (S_ISDIR(st.st_mode))
		return err_set(err, ERR_USAGE,
		    "%s is a folder; pack it into an archive first (tar "
		    "--numeric-owner --xattrs -C %s -cf - . | zstd > "
		    "FILE.tar.zst)",
		    file, file);
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return err_set(
		    err, ERR_USAGE, "%s is no file, or an empty one", file);
	s->size = st.st_size;
	name_it(s, file);
	return 0;
}

static void
tell(struct sending *s, const char *what, int64_t done)
{
	progress_show(s->cli,
	    arena_printf(s->cli->arena, "%s %s, %s: %d %%", what, s->name,
		text_bytes(s->cli, s->size), (int)(done * 100 / s->size)));
}

/* Up to a whole piece at that place; 0: the file is shorter than it was. */
static int
read_piece(struct sending *s, int64_t at, size_t *ret_len, struct err *err)
{
	ssize_t n = pread(s->fd, s->piece, UPLOAD_PIECE_BYTES_MAX, at);

	if (n < 0)
		return err_errno(err, ERR_SYSTEM, errno, "read %s", s->name);
	if (n == 0)
		return err_set(err, ERR_CONFLICT,
		    "%s was changed while it was sent", s->name);
	*ret_len = (size_t)n;
	if ((int64_t)*ret_len > s->size - at)
		*ret_len = (size_t)(s->size - at);
	return 0;
}

static int
hash_pieces(struct sending *s, EVP_MD_CTX *md, struct err *err)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	int64_t at;
	size_t len;
	int r;

	for (at = 0; at < s->size; at += (int64_t)len) {
		tell(s, "reading", at);
		if ((r = read_piece(s, at, &len, err)) < 0)
			return r;
		if (EVP_DigestUpdate(md, s->piece, len) != 1)
			return err_set(err, ERR_INTERNAL, "SHA-256 failed");
	}
	if (EVP_DigestFinal_ex(md, sum, &n) != 1)
		return err_set(err, ERR_INTERNAL, "SHA-256 failed");
	str_hex(s->sha256, sum, n);
	return 0;
}

static int
hash_file(struct sending *s, struct err *err)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	int r;

	if (md == NULL || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
		r = err_set(err, ERR_INTERNAL, "OpenSSL has no SHA-256");
	else
		r = hash_pieces(s, md, err);
	EVP_MD_CTX_free(md);
	return r;
}

/* Begins it, or finds what has arrived before. */
static int
find_upload(struct sending *s, struct err *err)
{
	json_t *body = json_pack("{ss sI ss}", "name", s->name, "size_bytes",
	    (json_int_t)s->size, "sha256", s->sha256);
	json_t *answer = NULL;
	int r = api_call(s->cli, "POST", "/v1/uploads", body, &answer, err);

	if (r < 0)
		return r;
	json_decref(s->upload);
	s->upload = answer;
	return 0;
}

/* All pieces from where it stands. */
static int
send_pieces(struct sending *s, int64_t *last_ms, struct err *err)
{
	int64_t at;
	size_t len;
	int r;

	while ((at = json_get_int(s->upload, "arrived_bytes", 0)) < s->size) {
		json_t *answer = NULL;

		tell(s, "sending", at);
		if ((r = read_piece(s, at, &len, err)) < 0)
			return r;
		r = api_send(s->cli,
		    arena_printf(s->cli->arena,
			"/v1/uploads/%" PRId64 "/data?offset=%" PRId64,
			json_get_int(s->upload, "id", 0), at),
		    s->piece, len, &answer, err);
		if (r < 0)
			return r;
		json_decref(s->upload);
		s->upload = answer;
		*last_ms = time_now_ms();
	}
	return 0;
}

static bool
may_pass(const struct err *err)
{
	return err->code == ERR_NETWORK || err->code == ERR_UNAVAILABLE ||
	       err->code == ERR_DATABASE;
}

/* Only what has begun is worth waiting for. */
static int
send_patiently(struct sending *s, struct err *err)
{
	int64_t last_ms = time_now_ms();
	int r;

	if ((r = find_upload(s, err)) < 0)
		return r;
	while ((r = send_pieces(s, &last_ms, err)) < 0 && may_pass(err) &&
	       time_now_ms() - last_ms < AWAY_MAX_MS) {
		do {
			tell(s, "waiting for the API to go on with",
			    json_get_int(s->upload, "arrived_bytes", 0));
			sleep(1);
		} while ((r = find_upload(s, err)) < 0 && may_pass(err) &&
			 time_now_ms() - last_ms < AWAY_MAX_MS);
		if (r < 0)
			break;
	}
	return r;
}

int
upload_send(struct cli *cli, const char *file, json_t **ret, struct err *err)
{
	_cleanup_(sending_done)
	struct sending s = { .cli = cli, .fd = -1 };
	int r;

	s.piece = xcalloc(1, UPLOAD_PIECE_BYTES_MAX);
	if ((r = open_file(&s, file, err)) < 0)
		return r;
	if ((r = hash_file(&s, err)) == 0) {
		interrupt_begin(GOES_ON, NULL);
		r = send_patiently(&s, err);
		interrupt_end();
	}
	progress_show(cli, "");
	if (r == 0)
		*ret = json_incref(s.upload);
	return r;
}

static int
run_upload_add(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *upload = NULL;
	int r;

	if ((r = upload_send(cli, value_get(values, "FILE"), &upload, err)) < 0)
		return r;
	print_done(cli, values->noun, upload);
	return 0;
}

static const struct column columns[] = {
	{ "ID", "id", COLUMN_NUMBER },
	{ "NAME", "name", COLUMN_TEXT },
	{ "HOST", "host", COLUMN_TEXT },
	{ "SIZE", "size_bytes", COLUMN_BYTES },
	{ "%", "progress", COLUMN_NUMBER },
	{ "AUTHOR", "author", COLUMN_TEXT },
	{ "LAST PIECE", "touched_at", COLUMN_AGE },
	COLUMN_END,
};

static const struct arg list_args[] = {
	{ "--host", ARG_HOST, 0, "host_id", .doc = "only those on that host" },
	ARG_END,
};

static const struct arg one_args[] = {
	{ "UPLOAD", ARG_UPLOAD, ARG_REQUIRED | ARG_MANY,
	    .doc = "the upload's id" },
	ARG_END,
};

static const struct arg add_args[] = {
	{ "FILE", ARG_FILE, ARG_REQUIRED,
	    .doc = "an archive, or the disk of a virtual machine, where this "
		   "command runs" },
	ARG_END,
};

static const struct command commands[] = {
	{ "list", run_list, list_args, .summary = "Lists the uploads" },
	{ "show", run_show, one_args, .summary = "Shows uploads" },
	{ "add", run_upload_add, add_args,
	    "Sends a file to the API's node, or goes on with it",
	    "Like 'qvd image import --upload', which imports it then, too. "
	    "'qvd image import --upload' of the same file sends nothing "
	    "again. What nobody goes on with is removed after 7 days, what a "
	    "version was made of at once." },
	{ "del", run_del, one_args, "Removes uploads",
	    "One that is being imported is not removed." },
	{ .verb = NULL },
};

const struct noun noun_upload = { "upload", "/v1/uploads", columns, commands,
	"files on their way to be images" };
