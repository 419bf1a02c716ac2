/*
 * Lets the conformance suite drive the C client: reads one command as JSON from each line of standard input, and writes
 * one result as JSON for each. clients/conformance.md describes the commands. It uses only fieldsync.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _POSIX_C_SOURCE 200809L

#include "fieldsync.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

static const char *const KINDS[] = {"ok",           "invalid_request", "not_permitted",     "no_such_record", "conflict",
                                    "cursor_expired", "unavailable",   "queue_full",        "api",            "connection_failed",
                                    "time_limit",   "protocol",        "cancelled",         "system"};

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count + 1, bytes);
    if (memory == NULL) {
        fputs("adapter: there is not enough memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* A copy of the text of a member; NULL if it is missing or null. */
static char *text_member(struct fieldsync_slice object, const char *name)
{
    struct fieldsync_slice value;
    char *text;
    if (!fieldsync_json_member(object, name, &value) || value.text[0] != '"') {
        return NULL;
    }
    text = (char *)allocate(value.bytes, 1);
    if (fieldsync_json_string(value, text, value.bytes + 1) < 0) {
        text[0] = '\0';
    }
    return text;
}

static int64_t integer_member(struct fieldsync_slice object, const char *name, int64_t missing)
{
    struct fieldsync_slice value;
    int64_t number;
    return fieldsync_json_member(object, name, &value) && fieldsync_json_integer(value, &number) ? number : missing;
}

static void write_string(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 0x20 || byte == '"' || byte == '\\') {
            printf("\\u%04x", byte);
        } else {
            putchar(byte);
        }
    }
    putchar('"');
}

/* Writes JSON on one line. Within strings, line ends are escaped already. */
static void write_json(const char *json)
{
    for (; *json != '\0'; json++) {
        putchar(*json == '\n' || *json == '\r' ? ' ' : *json);
    }
}

static void end_line(void)
{
    putchar('\n');
    fflush(stdout);
}

static void write_ids(const struct fieldsync_record *records, size_t count)
{
    size_t i;
    putchar('[');
    for (i = 0; i < count; i++) {
        fputs(i == 0 ? "" : ",", stdout);
        write_string(records[i].id);
    }
    putchar(']');
}

static void write_error(const struct fieldsync_error *error, const struct fieldsync_record *records, size_t count,
                        size_t stored, const char *entry)
{
    int is_response = error->kind >= FIELDSYNC_INVALID_REQUEST && error->kind <= FIELDSYNC_API && error->status != 0;
    printf("{\"error\":{\"kind\":\"%s\",\"status\":", KINDS[error->kind]);
    if (is_response) {
        printf("%d", error->status);
    } else {
        fputs("null", stdout);
    }
    fputs(",\"code\":", stdout);
    if (is_response && error->code[0] != '\0') {
        write_string(error->code);
    } else {
        fputs("null", stdout);
    }
    fputs(",\"position\":", stdout);
    if (error->position > 0) {
        printf("%lld", (long long)error->position);
    } else {
        fputs("null", stdout);
    }
    fputs(",\"message\":", stdout);
    write_string(error->message);
    fputs(",\"ids\":", stdout);
    write_ids(records, count);
    fputs(",\"stored\":", stdout);
    write_ids(records, stored);
    fputs(",\"entry\":", stdout);
    write_json(entry == NULL ? "null" : entry);
    fputs("}}", stdout);
    end_line();
}

/* Writes the JSON of a successful call, or its error; frees it. */
static void write_result(char *json, const struct fieldsync_error *error)
{
    if (error->kind != FIELDSYNC_OK) {
        write_error(error, NULL, 0, 0, NULL);
    } else {
        fputs("{\"ok\":", stdout);
        write_json(json);
        putchar('}');
        end_line();
    }
    fieldsync_free(json);
}

static size_t count_elements(struct fieldsync_slice array)
{
    struct fieldsync_slice element;
    size_t position = 0, count = 0;
    while (fieldsync_json_element(array, &position, &element)) {
        count++;
    }
    return count;
}

static void read_record(struct fieldsync_slice json, struct fieldsync_record *record)
{
    struct fieldsync_slice payload;
    char *id = text_member(json, "id");
    if (id != NULL) {
        snprintf(record->id, sizeof record->id, "%s", id);
        free(id);
    }
    record->type = text_member(json, "type");
    record->key = text_member(json, "key");
    if (fieldsync_json_member(json, "payload", &payload)) {
        record->payload_json = payload.text;
        record->payload_bytes = payload.bytes;
    }
    record->priority = (int)integer_member(json, "priority", -1);
    record->has_priority = record->priority >= 0;
}

static void run_enqueue(struct fieldsync_client *client, struct fieldsync_slice command)
{
    struct fieldsync_slice array = {"[]", 2}, element;
    struct fieldsync_record *records;
    struct fieldsync_enqueued enqueued;
    struct fieldsync_error error;
    size_t position = 0, count, i;
    (void)fieldsync_json_member(command, "records", &array);
    count = count_elements(array);
    records = (struct fieldsync_record *)allocate(count, sizeof *records);
    for (i = 0; i < count && fieldsync_json_element(array, &position, &element); i++) {
        read_record(element, &records[i]);
    }
    if (fieldsync_enqueue(client, records, count, integer_member(command, "time_limit_ms", -1), &enqueued, &error) ==
        FIELDSYNC_OK) {
        printf("{\"ok\":{\"accepted\":%zu,\"duplicates\":%zu,\"ids\":", enqueued.accepted, enqueued.duplicates);
        write_ids(records, count);
        fputs("}}", stdout);
        end_line();
    } else {
        write_error(&error, records, count, enqueued.stored, NULL);
    }
    for (i = 0; i < count; i++) {
        free((void *)(size_t)records[i].type);
        free((void *)(size_t)records[i].key);
    }
    free(records);
}

/* The states as the client takes them; NULL for its default. */
static char *read_states(struct fieldsync_slice command)
{
    struct fieldsync_slice array, element;
    char *states, state[32];
    size_t position = 0;
    if (!fieldsync_json_member(command, "states", &array) || array.text[0] != '[') {
        return NULL;
    }
    states = (char *)allocate(array.bytes, 1);
    while (fieldsync_json_element(array, &position, &element)) {
        if (fieldsync_json_string(element, state, sizeof state) > 0) {
            strcat(states, state);
            strcat(states, ",");
        }
    }
    return states;
}

static void run_wait(struct fieldsync_client *client, struct fieldsync_slice command)
{
    struct fieldsync_entry entry;
    struct fieldsync_error error;
    char *id = text_member(command, "id"), *states = read_states(command);
    if (fieldsync_wait(client, id, states, integer_member(command, "time_limit_ms", -1), &entry, &error) ==
        FIELDSYNC_OK) {
        fputs("{\"ok\":{\"entry\":", stdout);
        write_json(entry.json);
        fputs("}}", stdout);
        end_line();
    } else {
        write_error(&error, NULL, 0, 0, entry.json);
    }
    fieldsync_entry_clear(&entry);
    free(id);
    free(states);
}

static void run_record(struct fieldsync_client *client, struct fieldsync_slice command)
{
    struct fieldsync_entry entry;
    struct fieldsync_error error;
    char *id = text_member(command, "id");
    fieldsync_get_record(client, id, integer_member(command, "time_limit_ms", -1), &entry, &error);
    write_result(entry.json, &error);
    entry.json = NULL;
    fieldsync_entry_clear(&entry);
    free(id);
}

static void run_lookup(struct fieldsync_client *client, struct fieldsync_slice command)
{
    struct fieldsync_slice array = {"[]", 2}, element;
    struct fieldsync_error error;
    char **ids, *json;
    size_t position = 0, count, i;
    (void)fieldsync_json_member(command, "ids", &array);
    count = count_elements(array);
    ids = (char **)allocate(count, sizeof *ids);
    for (i = 0; i < count && fieldsync_json_element(array, &position, &element); i++) {
        ids[i] = (char *)allocate(element.bytes, 1);
        (void)fieldsync_json_string(element, ids[i], element.bytes + 1);
    }
    fieldsync_lookup(client, (const char *const *)ids, count, integer_member(command, "time_limit_ms", -1), &json, &error);
    write_result(json, &error);
    for (i = 0; i < count; i++) {
        free(ids[i]);
    }
    free(ids);
}

static int64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void write_event(const struct fieldsync_event *event)
{
    fputs("{\"event\":{\"id\":", stdout);
    write_string(event->id);
    fputs(",\"event\":", stdout);
    write_string(event->event);
    fputs(",\"data\":", stdout);
    write_json(event->data_json);
    fputs("}}", stdout);
    end_line();
}

static void run_events(struct fieldsync_client *client, struct fieldsync_slice command)
{
    struct fieldsync_events *events = NULL;
    struct fieldsync_event event;
    struct fieldsync_error error;
    char *last_event_id = text_member(command, "last_event_id"), *until = text_member(command, "until");
    int64_t count = integer_member(command, "count", 1), left;
    int64_t end = milliseconds() + integer_member(command, "time_limit_ms", FIELDSYNC_TIME_LIMIT_MS);
    enum fieldsync_error_kind kind = fieldsync_open_events(client, last_event_id, &events, &error);
    while (kind == FIELDSYNC_OK && count > 0) {
        left = end - milliseconds();
        if (left <= 0) {
            error.kind = kind = FIELDSYNC_TIME_LIMIT;
            break;
        }
        kind = fieldsync_next_event(events, left, &event, &error);
        if (kind == FIELDSYNC_OK) {
            write_event(&event);
            count -= until != NULL && strcmp(event.event, until) == 0;
        }
    }
    if (kind == FIELDSYNC_OK) {
        fputs("{\"ok\":{\"last_event_id\":", stdout);
        write_string(event.id);
        fputs("}}", stdout);
        end_line();
    } else {
        write_error(&error, NULL, 0, 0, NULL);
    }
    fieldsync_close_events(events);
    free(last_event_id);
    free(until);
}

static void run_command(struct fieldsync_client *client, struct fieldsync_slice command)
{
    char *name = text_member(command, "do"), *text = NULL, *json;
    int64_t time_limit_ms = integer_member(command, "time_limit_ms", -1);
    struct fieldsync_error error;
    if (name == NULL) {
        fputs("adapter: the command has no name\n", stderr);
        exit(2);
    } else if (strcmp(name, "enqueue") == 0) {
        run_enqueue(client, command);
    } else if (strcmp(name, "wait") == 0) {
        run_wait(client, command);
    } else if (strcmp(name, "record") == 0) {
        run_record(client, command);
    } else if (strcmp(name, "lookup") == 0) {
        run_lookup(client, command);
    } else if (strcmp(name, "events") == 0) {
        run_events(client, command);
    } else if (strcmp(name, "status") == 0) {
        fieldsync_status(client, time_limit_ms, &json, &error);
        write_result(json, &error);
    } else if (strcmp(name, "changes") == 0) {
        text = text_member(command, "cursor");
        fieldsync_changes(client, text == NULL ? "" : text, time_limit_ms, &json, &error);
        write_result(json, &error);
    } else {
        fprintf(stderr, "adapter: unknown command: %s\n", name);
        exit(2);
    }
    free(name);
    free(text);
}

static struct fieldsync_client *client;

static void cancel(int number)
{
    (void)number;
    fieldsync_cancel(client);
}

int main(int count, char **arguments)
{
    struct fieldsync_slice command;
    struct sigaction action;
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    client = fieldsync_client_new(count > 1 ? arguments[1] : NULL);
    if (client == NULL) {
        perror("adapter");
        return 1;
    }
    memset(&action, 0, sizeof action);
    action.sa_handler = cancel;
    action.sa_flags = SA_RESTART;
    sigaction(SIGTERM, &action, NULL);
    while ((length = getline(&line, &room, stdin)) > 0) {
        command.text = line;
        command.bytes = (size_t)length;
        run_command(client, command);
    }
    free(line);
    fieldsync_client_free(client);
    return 0;
}
