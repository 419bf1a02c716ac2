/*
 * Client of the local API of fieldsync: hands records to the daemon and learns what became of them.
 *
 * One header and one source, C99 and POSIX, no dependency. It follows the rules for apps: ids exist before the first
 * attempt, every attempt uses the same ids, and event streams resume after the last event.
 *
 * Threads: a client, and the event streams that were opened from it, are for one thread at a time; different clients
 * are independent. Only fieldsync_cancel may be called from other threads and from signal handlers. There is no global
 * state, no thread is started, no signal is changed or raised, and nothing is printed. After fork(), the child makes a
 * client of its own: that of its parent would repeat ids.
 *
 * Texts: all texts are UTF-8 and end with a zero byte. Those that a call returns belong to the caller, who frees them as
 * the comment at the call says.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef FIELDSYNC_H
#define FIELDSYNC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FIELDSYNC_VERSION "0.2.0"
/* The default time limit of calls, for a limit that is negative. */
#define FIELDSYNC_TIME_LIMIT_MS 60000
/* The length of an id with its zero byte. */
#define FIELDSYNC_ID_BYTES 37

/* What an app must do, one kind for each. The numbers do not change. */
enum fieldsync_error_kind {
    FIELDSYNC_OK = 0,
    /* 4xx: correct the request. Arguments that are wrong have this kind and the status 0. */
    FIELDSYNC_INVALID_REQUEST = 1,
    /* 403: the call is for admins, or the record is another user's. */
    FIELDSYNC_NOT_PERMITTED = 2,
    /* 404 no_such_record: the id is wrong, or the entry of the record is gone. */
    FIELDSYNC_NO_SUCH_RECORD = 3,
    /* 409: the id is known with other content, or the state of the record does not allow the call. */
    FIELDSYNC_CONFLICT = 4,
    /* 410: take a new cursor with "now", then look the open records up. */
    FIELDSYNC_CURSOR_EXPIRED = 5,
    /* 408, 500, 503: repeat the call later. */
    FIELDSYNC_UNAVAILABLE = 6,
    /* 507: the queue or the disk is full. Keep the records, and repeat the call after retry_after_s. */
    FIELDSYNC_QUEUE_FULL = 7,
    /* Any other error response. */
    FIELDSYNC_API = 8,
    /* No daemon is at the socket, or the connection was lost before the response. */
    FIELDSYNC_CONNECTION_FAILED = 9,
    /* The time limit is over. The outcome may be unknown: repeat the call with the same ids. */
    FIELDSYNC_TIME_LIMIT = 10,
    /* The response is not HTTP or JSON, or it is too large. */
    FIELDSYNC_PROTOCOL = 11,
    /* fieldsync_cancel was called. The outcome may be unknown. */
    FIELDSYNC_CANCELLED = 12,
    /* There is not enough memory, or the system gives no random numbers. */
    FIELDSYNC_SYSTEM = 13
};

/* Why a call failed. All calls accept NULL instead of it. */
struct fieldsync_error {
    enum fieldsync_error_kind kind;
    /* Of the response, or 0. After FIELDSYNC_TIME_LIMIT, that of the last attempt. */
    int status;
    /* The faulty record, from 1, or 0. */
    int64_t position;
    /* When the same request may succeed, or -1. */
    int64_t retry_after_s;
    /* The code of the API, for example "invalid_record"; or empty. */
    char code[64];
    /* For people. */
    char message[512];
};

struct fieldsync_client;
struct fieldsync_events;

/*
 * Makes a client for a socket. NULL or "": $FIELDSYNC_SOCKET, or else /run/fieldsync/fieldsync.sock. It opens no
 * connection. Returns NULL with errno if there is not enough memory, if there are too many open files, or if the path is
 * too long.
 */
struct fieldsync_client *fieldsync_client_new(const char *socket_path);
/* Frees a client after its event streams were closed. Accepts NULL. */
void fieldsync_client_free(struct fieldsync_client *client);
/* Larger responses and events are FIELDSYNC_PROTOCOL. The default is 32 MiB. */
void fieldsync_set_max_response_bytes(struct fieldsync_client *client, size_t bytes);

/*
 * Ends the current call and all later ones of this client with FIELDSYNC_CANCELLED. May be called from any thread, and
 * from a signal handler, as long as the client exists.
 */
void fieldsync_cancel(struct fieldsync_client *client);
/* Allows calls again after fieldsync_cancel. */
void fieldsync_reset_cancel(struct fieldsync_client *client);

/* Frees a text that a call returned. Accepts NULL. */
void fieldsync_free(void *text);

/* Makes an id: a UUID of version 7, larger than all earlier ones of this client. */
enum fieldsync_error_kind fieldsync_new_id(struct fieldsync_client *client, char id[FIELDSYNC_ID_BYTES]);

/* A record to enqueue. Set all members that are not used to zero. Its texts must be UTF-8. */
struct fieldsync_record {
    /* A UUID that identifies the record forever. If it is empty, fieldsync_enqueue makes one and writes it here. */
    char id[FIELDSYNC_ID_BYTES];
    /* What kind of record it is. */
    const char *type;
    /* A JSON object, sent byte for byte. */
    const char *payload_json;
    /* The length of the payload, or 0 if it ends with a zero byte. */
    size_t payload_bytes;
    /* Records with the same key are sent in order. NULL: none. */
    const char *key;
    /* Whether priority is set; the default is 5. */
    int has_priority;
    /* 0 to 9; 9 goes first. */
    int priority;
};

struct fieldsync_enqueued {
    /* Records that are new to the daemon. */
    size_t accepted;
    /* Records that the daemon had already. */
    size_t duplicates;
    /* This many records, from the first, are known to be stored; also after an error. */
    size_t stored;
};

/*
 * Hands records over to the daemon. It returns once they are on disk; then the app may forget their payloads.
 *
 * Attempts that fail are repeated under the same ids until the time limit. After an error, call it again with the same
 * records: they have their ids now, and those that are stored count as duplicates. More than 10,000 records or 8 MiB
 * are sent in several requests, each of which is stored whole or not at all. They are smaller if the daemon takes less.
 * Of a request with 10,000 records, memory holds the text of the request, not a copy of each record.
 */
enum fieldsync_error_kind fieldsync_enqueue(struct fieldsync_client *client, struct fieldsync_record *records,
                                            size_t count, int64_t time_limit_ms, struct fieldsync_enqueued *enqueued,
                                            struct fieldsync_error *error);

/* What the daemon knows of a record. Free it with fieldsync_entry_clear. */
struct fieldsync_entry {
    char id[FIELDSYNC_ID_BYTES];
    /* "PENDING", "SYNCING", "SYNCED", "FAILED", "QUARANTINED" or "DISCARDED". */
    char state[16];
    /* What the server said that the record became, as JSON; or NULL. */
    char *receipt_json;
    /* The whole entry as JSON; NULL before there is one. */
    char *json;
};

/* Frees the texts of an entry. */
void fieldsync_entry_clear(struct fieldsync_entry *entry);

/*
 * Waits until a record is in one of the states, for example "SYNCED,QUARANTINED". NULL: SYNCED, QUARANTINED or
 * DISCARDED. Other states are noticed when a batch ends; a short one may be missed.
 *
 * It follows the events of the daemon, also through its restarts. After an error, the entry is the one that was read
 * last. In either case, free it.
 */
enum fieldsync_error_kind fieldsync_wait(struct fieldsync_client *client, const char *id, const char *states,
                                         int64_t time_limit_ms, struct fieldsync_entry *entry,
                                         struct fieldsync_error *error);

/* The entry of a record. Free it. */
enum fieldsync_error_kind fieldsync_get_record(struct fieldsync_client *client, const char *id, int64_t time_limit_ms,
                                               struct fieldsync_entry *entry, struct fieldsync_error *error);

/* The status of the daemon, as JSON. Free it with fieldsync_free. */
enum fieldsync_error_kind fieldsync_status(struct fieldsync_client *client, int64_t time_limit_ms, char **json,
                                           struct fieldsync_error *error);

/* {"records": […], "unknown": […]}: the entries of up to 1000 records. Free it with fieldsync_free. */
enum fieldsync_error_kind fieldsync_lookup(struct fieldsync_client *client, const char *const *ids, size_t count,
                                           int64_t time_limit_ms, char **json, struct fieldsync_error *error);

/*
 * {"records": […], "next": "…"}: what changed since a cursor, "now" or the "next" of an earlier call. Process the
 * records, then store "next". There may be more as long as it differs from the cursor. Free it with fieldsync_free.
 */
enum fieldsync_error_kind fieldsync_changes(struct fieldsync_client *client, const char *cursor, int64_t time_limit_ms,
                                            char **json, struct fieldsync_error *error);

/* An event. Its texts are valid until the next call for the same stream. */
struct fieldsync_event {
    /* Store it after the event was processed, and open the stream with it. */
    const char *id;
    /* "status", "progress", "batch", "record", "breaker", "connectivity", "alert" or "gap". */
    const char *event;
    const char *data_json;
};

/*
 * Opens a stream of events after the one with this id; NULL or "" for those from now on. It connects in
 * fieldsync_next_event. Close the stream with fieldsync_close_events.
 */
enum fieldsync_error_kind fieldsync_open_events(struct fieldsync_client *client, const char *last_event_id,
                                                struct fieldsync_events **events, struct fieldsync_error *error);

/*
 * Waits for the next event. It reconnects by itself when the stream ends, after 1 s to 30 s. After FIELDSYNC_TIME_LIMIT
 * and FIELDSYNC_CANCELLED, the stream can still be used; after other errors, close it. With a time limit of 0, it does
 * what can be done at once.
 */
enum fieldsync_error_kind fieldsync_next_event(struct fieldsync_events *events, int64_t time_limit_ms,
                                               struct fieldsync_event *event, struct fieldsync_error *error);

/*
 * For event loops: call fieldsync_next_event with a time limit of 0, until it returns FIELDSYNC_TIME_LIMIT. Then wait
 * until the descriptor is readable, or until the time of fieldsync_events_wait_ms has passed. The descriptor is -1 while
 * there is no connection, and another one after each call.
 */
int fieldsync_events_fd(const struct fieldsync_events *events);
/* Milliseconds until the next call is due without a readable descriptor; -1: none. */
int64_t fieldsync_events_wait_ms(const struct fieldsync_events *events);

/* Accepts NULL. */
void fieldsync_close_events(struct fieldsync_events *events);

/*
 * For apps without a JSON parser. These read JSON in place. They accept any text, and are bounded in time by its length
 * and in depth by 256 levels.
 */

/* A value within a JSON text: not a copy, and without a zero byte at its end. */
struct fieldsync_slice {
    const char *text;
    size_t bytes;
};

/* Finds a member of an object. Returns 1, or 0 if the text is not an object or has no such member. */
int fieldsync_json_member(struct fieldsync_slice object, const char *name, struct fieldsync_slice *value);
/*
 * Steps through an array: begin with *position = 0. Returns 1 and the next element, or 0 at the end, and if the text is
 * not an array.
 */
int fieldsync_json_element(struct fieldsync_slice array, size_t *position, struct fieldsync_slice *element);
/*
 * Decodes a string as UTF-8 with a zero byte at its end. Returns its length; or -1 if the text is not a string, if it has a
 * character of code zero or half a surrogate pair, or if the room is too small.
 */
int64_t fieldsync_json_string(struct fieldsync_slice string, char *room, size_t room_bytes);
/* Reads a whole number. Returns 1, or 0 if the text is not a whole number of 64 bits. */
int fieldsync_json_integer(struct fieldsync_slice number, int64_t *value);

#ifdef __cplusplus
}
#endif

#endif
