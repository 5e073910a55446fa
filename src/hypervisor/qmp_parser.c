/* SPDX-License-Identifier: GPL-3.0-or-later */
/* QMP as QEMU sends it: one JSON object a line. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "hypervisor/qmp.h"
#include "json/json.h"

void
qmp_message_done(struct qmp_message *msg)
{
	json_decref(msg->data);
	msg->data = NULL;
}

void
qmp_parser_init(struct qmp_parser *p)
{
	*p = (struct qmp_parser){ 0 };
	/* Besides a whole message, the piece that follows it. */
	buf_init(&p->in, 2 * QMP_MESSAGE_MAX);
}

void
qmp_parser_done(struct qmp_parser *p)
{
	buf_done(&p->in);
}

static int
broken(struct qmp_parser *p, struct err *err, const char *what)
{
	p->broken = true;
	return err_set(err, ERR_PROTOCOL, "QEMU's monitor says %s", what);
}

int
qmp_parser_feed(
    struct qmp_parser *p, const void *data, size_t n, struct err *err)
{
	if (p->broken)
		return err_set(err, ERR_PROTOCOL,
		    "QEMU's monitor has said what is not its protocol");
	if (buf_append(&p->in, data, n))
		return 0;
	p->broken = true;
	return err_set(err, ERR_TOO_LARGE,
	    "QEMU's monitor says more than %d bytes in one message",
	    QMP_MESSAGE_MAX);
}

/* Names are QEMU's own words; of others nothing is shown. */
static bool
take_name(struct qmp_message *msg, const json_t *value)
{
	const char *s = json_string_value(value);

	return s != NULL && str_is_name(s, QMP_NAME_MAX - 1) &&
	       str_copy(msg->name, sizeof(msg->name), s);
}

static void
take_data(struct qmp_message *msg, json_t *value)
{
	msg->data = value != NULL ? json_incref(value) : json_object();
}

static bool
take_error(struct qmp_message *msg, json_t *error)
{
	const char *desc = json_get_str(error, "desc", "it doesn't say why");

	str_escape(msg->text, sizeof(msg->text), desc, strlen(desc));
	take_data(msg, error);
	return take_name(msg, json_object_get(error, "class"));
}

static bool
take_message(struct qmp_message *msg, json_t *obj)
{
	json_t *v;

	msg->id = json_get_int(obj, "id", -1);
	if ((v = json_object_get(obj, "event")) != NULL) {
		msg->kind = QMP_EVENT;
		take_data(msg, json_object_get(obj, "data"));
		return take_name(msg, v);
	}
	if ((v = json_object_get(obj, "error")) != NULL) {
		msg->kind = QMP_ERROR;
		return take_error(msg, v);
	}
	if ((v = json_object_get(obj, "return")) != NULL) {
		msg->kind = QMP_RETURN;
		take_data(msg, v);
		return true;
	}
	msg->kind = QMP_GREETING;
	v = json_object_get(obj, "QMP");
	take_data(msg, v);
	return json_is_object(v);
}

static int
parse_line(struct qmp_parser *p, const char *line, size_t len,
    struct qmp_message *ret, struct err *err)
{
	struct qmp_message msg = { .id = -1 };
	_cleanup_(json_decrefp)
	json_t *obj = NULL;

	if (json_parse(line, len, &obj, NULL) < 0 || !json_is_object(obj))
		return broken(p, err, "what is no JSON object");
	if (!take_message(&msg, obj)) {
		qmp_message_done(&msg);
		return broken(p, err, "what is no message of its protocol");
	}
	*ret = msg;
	return 1;
}

int
qmp_parser_next(struct qmp_parser *p, struct qmp_message *ret, struct err *err)
{
	const char *head, *nl;
	size_t len;
	int r;

	if (p->broken)
		return broken(p, err, "what is not its protocol");
	for (;;) {
		head = buf_head(&p->in);
		len = buf_len(&p->in);
		nl = len == p->looked
			 ? NULL
			 : memchr(head + p->looked, '\n', len - p->looked);
		if (nl == NULL) {
			p->looked = len;
			if (len <= QMP_MESSAGE_MAX)
				return 0;
			return broken(p, err, "more than fits one message");
		}
		len = (size_t)(nl - head);
		p->looked = 0;
		if (len > QMP_MESSAGE_MAX)
			return broken(p, err, "more than fits one message");
		if (len > 0 && head[len - 1] == '\r')
			len--;
		r = len == 0 ? 0 : parse_line(p, head, len, ret, err);
		buf_consume(&p->in, (size_t)(nl - head) + 1);
		if (r != 0)
			return r;
	}
}
