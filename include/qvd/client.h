/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * libqvdclient: log in to a QVD farm, list desktops, and work in one.
 *
 * Every call blocks until it is done, has failed, was cancelled, or ran into
 * the time limit; only qvd_client_run() lasts as long as the session does.
 * The library has no thread, no event loop and no global state: a client
 * object is used by one thread at a time, several objects by several threads
 * at once. Only qvd_client_cancel() may be called from anywhere, also from a
 * signal handler; it ends everything but the look-up of the server's name,
 * which the C library does. SIGPIPE is never raised for the library's own
 * connections. Where memory ends, the process does (abort).
 *
 * What talks to the X server is a program of its own, qvd-client-nx, which
 * the library starts for each session and after each reconnection (the NX
 * library keeps global state, and reads bytes that come from the desktop: it
 * has neither password nor connection, only a socket pair to the library).
 *
 * Failure: a call returns 0, or the negative of an enum qvd_code and fills
 * *error (if not NULL) with a sentence for the user. Text is UTF-8.
 *
 * Versions: structs that the caller fills begin with their size; fields are
 * only ever added at the end, and what an older caller didn't know is zero.
 * Zero always means the default. Use the INIT macros.
 */
#ifndef QVD_CLIENT_H
#define QVD_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Grows with each addition to this header. */
#define QVD_CLIENT_API 1

#define QVD_PORT 8443 /* where farms listen */

#if defined(__GNUC__)
#define QVD_EXPORT __attribute__((visibility("default")))
#else
#define QVD_EXPORT
#endif

/* Also the exit codes of qvd-client. New ones may come: treat one that you
 * don't know as QVD_INTERNAL. */
enum qvd_code {
	QVD_OK = 0,
	QVD_USAGE = 2,
	QVD_INTERNAL = 10,
	QVD_INVALID = 11,   /* the server didn't understand the request */
	QVD_AUTH = 12,      /* wrong user, password or token */
	QVD_BLOCKED = 13,   /* user, desktop or farm is under maintenance */
	QVD_FORBIDDEN = 14, /* not this user's */
	QVD_NOT_FOUND = 15, /* no such desktop */
	QVD_CONFLICT = 16,  /* not in the desktop's present state */
	QVD_TOO_LARGE = 17,
	QVD_PARAMETER = 18,   /* a parameter is missing or wrong */
	QVD_UPGRADE = 19,     /* the server wants a newer client */
	QVD_UNAVAILABLE = 20, /* the desktop can't be had now */
	QVD_TIMEOUT = 21,
	QVD_NO_SPACE = 22,
	QVD_NO_MEMORY = 23,
	QVD_SYSTEM = 24,  /* this machine refused something */
	QVD_NETWORK = 25, /* no connection, or it broke */
	QVD_TLS = 26,
	QVD_PROTOCOL = 27, /* the peer doesn't speak QVD */
	QVD_DATABASE = 28,
	QVD_IMAGE = 29,
	QVD_VM_START = 30,
	QVD_VM_LOST = 31,
	QVD_SESSION = 32,     /* no X session, or the viewer failed */
	QVD_TAKEN_OVER = 33,  /* the session goes on at another client */
	QVD_CANCELLED = 34,   /* qvd_client_cancel() */
	QVD_CERTIFICATE = 35, /* the server's certificate isn't trusted */
	QVD_CONFIG = 36,
	QVD_ENDED = 37 /* the user has logged out of it */
};

struct qvd_error {
	size_t size;
	int code;           /* enum qvd_code */
	char id[48];        /* stable word, such as "vm-start-failed" */
	char reference[16]; /* the server's incident, "" if there is none */
	char message[1024]; /* one sentence that says what to do */
};
#define QVD_ERROR_INIT                                  \
	{                                               \
		sizeof(struct qvd_error), 0, "", "", "" \
	}

enum qvd_event_type {
	QVD_EVENT_PROGRESS = 1,  /* text: what the server is doing */
	QVD_EVENT_NOTICE = 2,    /* text: something the user should know */
	QVD_EVENT_CONNECTED = 3, /* the server has opened the session */
	QVD_EVENT_STARTED = 4,   /* the session draws on the X server */
	QVD_EVENT_LOST = 5,      /* text: why; reconnecting follows */
	QVD_EVENT_RETRY = 6,     /* text: why; next attempt in pause_ms */
	QVD_EVENT_LOG = 7        /* text: a line of the viewer */
};

struct qvd_event {
	size_t size;
	int type; /* enum qvd_event_type; ignore those that you don't know */
	const char *text; /* never NULL; valid during the callback */
	int pause_ms;
};
/* Called in the thread of the running call. May call nothing of this
 * library but qvd_client_cancel(). */
typedef void (*qvd_event_cb)(const struct qvd_event *event, void *arg);

/* Remember the certificate of a server that isn't known yet and that no
 * authority vouches for, in known_hosts. Without it such a server is
 * refused. A remembered certificate that has changed is always refused. */
#define QVD_TRUST_FIRST_USE 1u

struct qvd_client_options {
	size_t size;
	const char *host;        /* name or address; required */
	int port;                /* 0: QVD_PORT */
	const char *user;        /* login, also login@tenant */
	const char *password;    /* copied, wiped by qvd_client_free() */
	const char *token;       /* instead of user and password; the same */
	const char *ca_file;     /* authorities as PEM; NULL: the system's */
	const char *known_hosts; /* NULL: $XDG_CONFIG_HOME/qvd/known_hosts */
	const char *program_dir; /* of qvd-client-nx; NULL: as installed */
	int timeout_ms;          /* for each request but connecting; 0: 30 s */
	unsigned flags;
	qvd_event_cb on_event; /* may be NULL */
	void *arg;
};
#define QVD_CLIENT_OPTIONS_INIT                           \
	{                                                 \
		.size = sizeof(struct qvd_client_options) \
	}

/* One user at one farm. */
struct qvd_client;

/* The version of the library, "5.0.0". */
QVD_EXPORT const char *qvd_client_version(void);
/* The stable word of a code, "internal" for unknown ones. */
QVD_EXPORT const char *qvd_code_id(int code);

/* Checks the options and copies them; connects nowhere yet. */
QVD_EXPORT int qvd_client_new(const struct qvd_client_options *options,
    struct qvd_client **ret_client, struct qvd_error *error);
QVD_EXPORT void qvd_client_free(struct qvd_client *client);

/* Ends the call that runs on this client with QVD_CANCELLED; if none runs,
 * the next one. A session stays in its desktop, ready to be resumed. */
QVD_EXPORT void qvd_client_cancel(struct qvd_client *client);

/* Checks user and password. Needed by nobody: every call logs in. */
QVD_EXPORT int qvd_client_login(
    struct qvd_client *client, struct qvd_error *error);

enum qvd_list_kind { QVD_DESKTOPS = 1, QVD_APPLICATIONS = 2 };

struct qvd_vm {
	int64_t id;
	const char *name;
	const char *state;  /* "stopped", "starting", "running", "stopping",
			     * "zombie", or a word of the future */
	int blocked;        /* under maintenance */
	int is_application; /* one program instead of a desktop */
};
struct qvd_list;

QVD_EXPORT int qvd_client_list(struct qvd_client *client, int kind,
    struct qvd_list **ret_list, struct qvd_error *error);
QVD_EXPORT size_t qvd_list_count(const struct qvd_list *list);
/* Owned by the list; NULL past its end. */
QVD_EXPORT const struct qvd_vm *qvd_list_get(
    const struct qvd_list *list, size_t index);
QVD_EXPORT void qvd_list_free(struct qvd_list *list);

/* Stops a desktop: what runs in it is lost. Waits until it has stopped. */
QVD_EXPORT int qvd_client_stop(
    struct qvd_client *client, int64_t vm_id, struct qvd_error *error);

/* A token that logs in instead of user and password for a day. Give it to
 * qvd_secret_free(). */
QVD_EXPORT int qvd_client_token(
    struct qvd_client *client, char **ret_token, struct qvd_error *error);
QVD_EXPORT void qvd_secret_free(char *secret);

struct qvd_session_options {
	size_t size;
	int64_t vm_id;        /* required */
	const char *display;  /* X server; NULL: $DISPLAY */
	const char *geometry; /* "1280x800"; NULL: the session's default */
	int fullscreen;
	const char *link;     /* modem, isdn, adsl, wan, lan; NULL: measured */
	const char *keyboard; /* "pc105/us", the default */
	/* Further parameters for the desktop's hooks: name, value, name,
	 * value, NULL. Names begin with "custom." or "qvd.client.". */
	const char *const *params;
	int connect_timeout_ms; /* until the session is open; 0: 10 min */
	/* For how long a lost link is tried again; 0: 30 min, negative: it
	 * isn't. */
	int reconnect_ms;
};
#define QVD_SESSION_OPTIONS_INIT                           \
	{                                                  \
		.size = sizeof(struct qvd_session_options) \
	}

/*
 * Starts the desktop if need be, shows its session on the X server, and
 * stays until it ends. A lost link is opened again, with growing pauses;
 * if another client has taken the session meanwhile: QVD_TAKEN_OVER.
 * 0: the session has ended in order (the user logged out).
 */
QVD_EXPORT int qvd_client_run(struct qvd_client *client,
    const struct qvd_session_options *options, struct qvd_error *error);

#ifdef __cplusplus
}
#endif

#endif
