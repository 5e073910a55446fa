/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "client/answer.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"

static struct answer *
of(llhttp_t *parser)
{
	return parser->data;
}

static char *
find_slot(struct answer *answer)
{
	struct answer_headers *h = &answer->headers;
	const struct {
		const char *name;
		char *slot;
	} slots[] = {
		{ "x-qvd-vm-info", h->info },
		{ "x-qvd-error", h->error },
		{ "x-qvd-ref", h->ref },
		{ "x-qvd-slave-key", h->key },
		{ "content-type", h->type },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(slots); i++)
		if (str_eq(slots[i].name, answer->name))
			return slots[i].slot;
	return NULL;
}

static int
on_field(llhttp_t *parser, const char *at, size_t n)
{
	struct answer *answer = of(parser);
	size_t i;

	if (answer->in_value) {
		answer->in_value = false;
		answer->name_len = 0;
	}
	for (i = 0; i < n; i++)
		if (answer->name_len < sizeof(answer->name) - 1)
			answer->name[answer->name_len++] =
			    (char)tolower((unsigned char)at[i]);
	answer->name[answer->name_len] = '\0';
	return 0;
}

/* What goes to a terminal carries no control characters. Bytes of UTF-8 stay;
 * they are checked as a whole when the value is complete. */
static int
on_value(llhttp_t *parser, const char *at, size_t n)
{
	struct answer *answer = of(parser);
	size_t i;

	if (!answer->in_value) {
		answer->in_value = true;
		answer->slot = find_slot(answer);
		answer->slot_len = 0;
		if (answer->slot != NULL)
			answer->slot[0] = '\0';
	}
	for (i = 0; answer->slot != NULL && i < n; i++) {
		if (answer->slot_len == ANSWER_TEXT_MAX - 1)
			break;
		answer->slot[answer->slot_len++] =
		    (unsigned char)at[i] < ' ' || at[i] == 0x7f ? ' ' : at[i];
		answer->slot[answer->slot_len] = '\0';
	}
	return 0;
}

static void
clean(char *text)
{
	char raw[ANSWER_TEXT_MAX];

	if (text[0] == '\0' || str_is_text(text, ANSWER_TEXT_MAX))
		return;
	str_copy(raw, sizeof(raw), text);
	str_escape(text, ANSWER_TEXT_MAX, raw, strlen(raw));
}

static int
on_headers_complete(llhttp_t *parser)
{
	struct answer *answer = of(parser);

	answer->status = parser->status_code;
	answer->head_done = true;
	answer->name_len = 0;
	answer->in_value = false;
	clean(answer->headers.info);
	clean(answer->headers.error);
	clean(answer->headers.ref);
	clean(answer->headers.key);
	clean(answer->headers.type);
	/* 2: no body, and HTTP ends here. The QVD protocol's 101 has no
	 * Connection and Upgrade headers, so llhttp can't know. It would say
	 * so only with the next byte, which may never come. */
	return answer->status == 101 ? 2 : 0;
}

static int
on_body(llhttp_t *parser, const char *at, size_t n)
{
	struct answer *answer = of(parser);

	if (buf_append(&answer->body, at, n))
		return 0;
	err_set(answer->err, ERR_PROTOCOL,
	    "the server's answer is larger than %d KiB",
	    ANSWER_BODY_MAX / 1024);
	return HPE_USER;
}

static int
on_message_complete(llhttp_t *parser)
{
	struct answer *answer = of(parser);

	answer->complete = true;
	answer->keep_alive = llhttp_should_keep_alive(parser);
	return HPE_PAUSED;
}

static void
reset(struct answer *answer)
{
	explicit_bzero(&answer->headers, sizeof(answer->headers));
	answer->status = 0;
	answer->name_len = 0;
	answer->slot = NULL;
	answer->bytes = 0;
	answer->head_done = false;
	answer->in_value = false;
	answer->complete = false;
	llhttp_init(&answer->parser, HTTP_RESPONSE, &answer->settings);
	answer->parser.data = answer;
}

void
answer_init(struct answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	llhttp_settings_init(&answer->settings);
	answer->settings.on_header_field = on_field;
	answer->settings.on_header_value = on_value;
	answer->settings.on_headers_complete = on_headers_complete;
	answer->settings.on_body = on_body;
	answer->settings.on_message_complete = on_message_complete;
	buf_init(&answer->body, ANSWER_BODY_MAX);
	reset(answer);
}

void
answer_done(struct answer *answer)
{
	buf_done_secret(&answer->body);
	explicit_bzero(answer, sizeof(*answer));
}

static int
malformed(struct answer *answer, const char *data, size_t len)
{
	char start[48];

	return err_set(answer->err, ERR_PROTOCOL,
	    "this is not a QVD server: its answer is no HTTP (%s near '%s'); "
	    "check host and port",
	    llhttp_get_error_reason(&answer->parser),
	    str_escape(start, sizeof(start), data, len < 16 ? len : 16));
}

static size_t
limit(const struct answer *answer)
{
	/* Chunked bodies carry their own overhead; trailers count too. */
	return ANSWER_HEAD_MAX + (answer->head_done ? 8 * ANSWER_BODY_MAX : 0);
}

static int
too_long(struct answer *answer)
{
	if (answer->head_done)
		return err_set(answer->err, ERR_PROTOCOL,
		    "the server's answer doesn't end");
	return err_set(answer->err, ERR_PROTOCOL,
	    "the server's answer has more than %d KiB of headers",
	    ANSWER_HEAD_MAX / 1024);
}

/*
 * One byte at a time: then it is certain which byte was the last one of a
 * 101, whatever a version of llhttp thinks its error position is. Answers
 * are small, and what follows the 101 doesn't come here.
 */
int
answer_feed(struct answer *answer, const char *data, size_t len,
    size_t *ret_used, struct err *err)
{
	enum llhttp_errno r;
	size_t i;

	answer->err = err;
	if (answer->complete)
		reset(answer);
	for (i = 0; i < len; i++) {
		err->code = ERR_NONE;
		r = llhttp_execute(&answer->parser, data + i, 1);
		*ret_used = i + 1;
		if (answer->head_done && answer->status == 101)
			return ANSWER_UPGRADED;
		if (r == HPE_PAUSED && answer->complete)
			break;
		if (r != HPE_OK)
			return err_is_set(err) ? -(int)err->code
					       : malformed(answer, data, len);
		if (++answer->bytes > limit(answer))
			return too_long(answer);
	}
	if (!answer->complete)
		return ANSWER_MORE;
	if (answer->status >= 200)
		return ANSWER_FINAL;
	if (++answer->interims > ANSWER_INTERIM_MAX)
		return err_set(err, ERR_PROTOCOL,
		    "the server reports progress without end");
	return ANSWER_INTERIM;
}

int
answer_eof(struct answer *answer, struct err *err)
{
	answer->err = err;
	err->code = ERR_NONE;
	if (answer->head_done && !answer->complete &&
	    llhttp_finish(&answer->parser) != HPE_OK && !answer->complete)
		return err_is_set(err) ? -(int)err->code
				       : err_set(err, ERR_NETWORK,
					     "the server closed the "
					     "connection within its answer");
	if (!answer->complete)
		return err_set(err, ERR_NETWORK,
		    "the server closed the connection without an answer");
	answer->keep_alive = false;
	return ANSWER_FINAL;
}
