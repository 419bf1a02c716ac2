/*
 * Client of the local API of fieldsync; fieldsync.h describes it.
 *
 * The parts, from the bottom: buffers, errors, JSON, ids, the parser of HTTP responses, the parser of events, sockets, single
 * requests, the retry schedule, calls, event streams. The parsers take bytes in any pieces and do no input or output,
 * so that test.c and fuzz.c can drive them.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include "fieldsync.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/fieldsync/fieldsync.sock"
#define DEFAULT_MAX_RESPONSE_BYTES ((size_t)32 << 20)
/* For the heads of a response, interim ones included, and for its trailers. */
#define MAX_HEAD_BYTES ((size_t)64 << 10)
#define MAX_CHUNK_LINE_BYTES ((size_t)4 << 10)
#define MAX_EVENT_ID_BYTES ((size_t)1 << 10)
#define READ_BYTES ((size_t)64 << 10)
/* Without a response for this long, the request is repeated. */
#define ATTEMPT_LIMIT_MS 60000
/* A larger input is sent in several requests. */
#define MAX_REQUEST_RECORDS ((size_t)10000)
#define MAX_REQUEST_BYTES ((size_t)8 << 20)
/* The daemon may be about to create its socket, so the first retry comes early. No delay is shorter. */
#define QUICK_RETRY_MS 100
#define MIN_RETRY_MS 1000
#define MAX_RETRY_MS 60000
#define MAX_RECONNECT_MS 30000
/* For responses without Retry-After. */
#define UNAVAILABLE_RETRY_MS 5000
#define FULL_RETRY_MS 60000
/* The queue of connections of the socket is full for moments only. */
#define ACCEPT_RETRY_MS 20
/* The last attempt is made this long before the time limit. */
#define LAST_ATTEMPT_MS 1000
/* No time limit is longer, so that sums do not overflow: 100 years. */
#define MAX_TIME_LIMIT_MS ((int64_t)100 * 365 * 86400 * 1000)
#define MAX_JSON_DEPTH 256
#define MAX_MEMBER_NAME_BYTES 64

/* ---- Buffers ---- */

struct buffer {
    char *data;
    size_t length;
    size_t capacity;
};

/* Makes room for so many bytes and a zero byte. Returns 0 if there is not enough memory. */
static int reserve(struct buffer *buffer, size_t bytes)
{
    size_t needed, capacity;
    char *data;
    if (bytes >= SIZE_MAX / 2 - buffer->length) {
        return 0;
    }
    needed = buffer->length + bytes + 1;
    if (needed <= buffer->capacity) {
        return 1;
    }
    capacity = buffer->capacity < 256 ? 256 : buffer->capacity * 2;
    capacity = capacity < needed ? needed : capacity;
    data = (char *)realloc(buffer->data, capacity);
    if (data == NULL) {
        return 0;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return 1;
}

static int append(struct buffer *buffer, const char *bytes, size_t count)
{
    if (!reserve(buffer, count)) {
        return 0;
    }
    if (count > 0) {
        memcpy(buffer->data + buffer->length, bytes, count);
    }
    buffer->length += count;
    buffer->data[buffer->length] = '\0';
    return 1;
}

static int append_text(struct buffer *buffer, const char *text)
{
    return append(buffer, text, strlen(text));
}

static void clear(struct buffer *buffer)
{
    buffer->length = 0;
    if (buffer->data != NULL) {
        buffer->data[0] = '\0';
    }
}

static void release(struct buffer *buffer)
{
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

/* ---- Errors ---- */

/* Removes the beginning of a UTF-8 character at the end of a text that was cut. */
static void trim_utf8(char *text)
{
    size_t length = strlen(text), at = length, count;
    while (at > 0 && length - at < 3 && ((unsigned char)text[at - 1] & 0xc0) == 0x80) {
        at--;
    }
    if (at == 0) {
        return;
    }
    switch ((unsigned char)text[at - 1] >> 4) {
    case 0xc:
    case 0xd:
        count = 2;
        break;
    case 0xe:
        count = 3;
        break;
    case 0xf:
        count = 4;
        break;
    default:
        return;
    }
    if (length - (at - 1) < count) {
        text[at - 1] = '\0';
    }
}

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static enum fieldsync_error_kind
fail(struct fieldsync_error *error, enum fieldsync_error_kind kind, const char *format, ...)
{
    va_list arguments;
    memset(error, 0, sizeof *error);
    error->kind = kind;
    error->retry_after_s = -1;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    trim_utf8(error->message);
    return kind;
}

static enum fieldsync_error_kind fail_memory(struct fieldsync_error *error)
{
    return fail(error, FIELDSYNC_SYSTEM, "there is not enough memory");
}

static enum fieldsync_error_kind succeed(struct fieldsync_error *error)
{
    return fail(error, FIELDSYNC_OK, "%s", "");
}

/* ---- JSON ---- */

struct cursor {
    const char *at;
    const char *end;
};

static struct fieldsync_slice slice_of(const char *text, size_t bytes)
{
    struct fieldsync_slice slice;
    slice.text = text;
    slice.bytes = bytes;
    return slice;
}

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\t' || *cursor->at == '\n' ||
                                        *cursor->at == '\r')) {
        cursor->at++;
    }
}

static int skip_char(struct cursor *cursor, char expected)
{
    if (cursor->at == cursor->end || *cursor->at != expected) {
        return 0;
    }
    cursor->at++;
    return 1;
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* Skips one character of UTF-8. */
static int skip_utf8(struct cursor *cursor)
{
    const unsigned char *at = (const unsigned char *)cursor->at;
    size_t left = (size_t)(cursor->end - cursor->at), count, i;
    if (at[0] < 0x80) {
        count = 1;
    } else if (at[0] >= 0xc2 && at[0] <= 0xdf) {
        count = 2;
    } else if (at[0] >= 0xe0 && at[0] <= 0xef) {
        count = 3;
    } else if (at[0] >= 0xf0 && at[0] <= 0xf4) {
        count = 4;
    } else {
        return 0;
    }
    if (count > left) {
        return 0;
    }
    for (i = 1; i < count; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    /* Longer forms than needed, surrogates, and what is beyond Unicode. */
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) ||
        (at[0] == 0xf4 && at[1] > 0x8f)) {
        return 0;
    }
    cursor->at += count;
    return 1;
}

static int is_utf8(const char *text)
{
    struct cursor cursor;
    cursor.at = text;
    cursor.end = text + strlen(text);
    while (cursor.at < cursor.end) {
        if (!skip_utf8(&cursor)) {
            return 0;
        }
    }
    return 1;
}

static int skip_string(struct cursor *cursor)
{
    int i;
    if (!skip_char(cursor, '"')) {
        return 0;
    }
    while (cursor->at < cursor->end) {
        if (*cursor->at == '"') {
            cursor->at++;
            return 1;
        }
        if (*cursor->at == '\\') {
            cursor->at++;
            if (cursor->at == cursor->end || strchr("\"\\/bfnrtu", *cursor->at) == NULL || *cursor->at == '\0') {
                return 0;
            }
            if (*cursor->at++ == 'u') {
                for (i = 0; i < 4; i++) {
                    if (cursor->at == cursor->end || hex_digit(*cursor->at) < 0) {
                        return 0;
                    }
                    cursor->at++;
                }
            }
        } else if ((unsigned char)*cursor->at < 0x20 || !skip_utf8(cursor)) {
            return 0;
        }
    }
    return 0;
}

static int skip_digits(struct cursor *cursor)
{
    const char *start = cursor->at;
    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9') {
        cursor->at++;
    }
    return cursor->at > start;
}

static int skip_number(struct cursor *cursor)
{
    (void)skip_char(cursor, '-');
    if (!skip_char(cursor, '0') && !skip_digits(cursor)) {
        return 0;
    }
    if (skip_char(cursor, '.') && !skip_digits(cursor)) {
        return 0;
    }
    if (skip_char(cursor, 'e') || skip_char(cursor, 'E')) {
        if (!skip_char(cursor, '+')) {
            (void)skip_char(cursor, '-');
        }
        return skip_digits(cursor);
    }
    return 1;
}

static int skip_word(struct cursor *cursor, const char *word)
{
    size_t bytes = strlen(word);
    if ((size_t)(cursor->end - cursor->at) < bytes || memcmp(cursor->at, word, bytes) != 0) {
        return 0;
    }
    cursor->at += bytes;
    return 1;
}

static int skip_name(struct cursor *cursor)
{
    skip_space(cursor);
    if (!skip_string(cursor)) {
        return 0;
    }
    skip_space(cursor);
    return skip_char(cursor, ':');
}

static int skip_scalar(struct cursor *cursor)
{
    if (cursor->at == cursor->end) {
        return 0;
    }
    switch (*cursor->at) {
    case '"':
        return skip_string(cursor);
    case 't':
        return skip_word(cursor, "true");
    case 'f':
        return skip_word(cursor, "false");
    case 'n':
        return skip_word(cursor, "null");
    default:
        return skip_number(cursor);
    }
}

/* Skips one value, and checks that it is valid. */
static int skip_value(struct cursor *cursor)
{
    char open[MAX_JSON_DEPTH];
    size_t depth = 0;
    for (;;) {
        skip_space(cursor);
        if (cursor->at < cursor->end && (*cursor->at == '{' || *cursor->at == '[')) {
            char kind = *cursor->at++;
            if (depth == MAX_JSON_DEPTH) {
                return 0;
            }
            skip_space(cursor);
            if (!skip_char(cursor, kind == '{' ? '}' : ']')) {
                open[depth++] = kind;
                if (kind == '{' && !skip_name(cursor)) {
                    return 0;
                }
                continue;
            }
        } else if (!skip_scalar(cursor)) {
            return 0;
        }
        for (;;) {
            if (depth == 0) {
                return 1;
            }
            skip_space(cursor);
            if (skip_char(cursor, ',')) {
                if (open[depth - 1] == '{' && !skip_name(cursor)) {
                    return 0;
                }
                break;
            }
            if (!skip_char(cursor, open[depth - 1] == '{' ? '}' : ']')) {
                return 0;
            }
            depth--;
        }
    }
}

static int is_json(const char *text, size_t bytes)
{
    struct cursor cursor;
    cursor.at = text;
    cursor.end = text + bytes;
    if (bytes == 0 || !skip_value(&cursor)) {
        return 0;
    }
    skip_space(&cursor);
    return cursor.at == cursor.end;
}

static int is_json_object(const char *text, size_t bytes)
{
    size_t at = 0;
    while (at < bytes && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r')) {
        at++;
    }
    return at < bytes && text[at] == '{' && is_json(text, bytes);
}

/* Reads the four digits of an escape. */
static unsigned escape_unit(const char *digits)
{
    unsigned unit = 0;
    int i;
    for (i = 0; i < 4; i++) {
        unit = unit * 16 + (unsigned)hex_digit(digits[i]);
    }
    return unit;
}

/* Writes a character as UTF-8. Returns its length. */
static size_t encode_utf8(unsigned code, char *room)
{
    if (code < 0x80) {
        room[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        room[0] = (char)(0xc0 | (code >> 6));
        room[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        room[0] = (char)(0xe0 | (code >> 12));
        room[1] = (char)(0x80 | ((code >> 6) & 0x3f));
        room[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    room[0] = (char)(0xf0 | (code >> 18));
    room[1] = (char)(0x80 | ((code >> 12) & 0x3f));
    room[2] = (char)(0x80 | ((code >> 6) & 0x3f));
    room[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* Decodes the escape after a backslash. Returns the length, or 0 if it cannot be decoded. */
static size_t decode_escape(struct cursor *cursor, char *room)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char name = *cursor->at++;
    unsigned code, low;
    if (name != 'u') {
        room[0] = values[strchr(names, name) - names];
        return 1;
    }
    code = escape_unit(cursor->at);
    cursor->at += 4;
    if (code >= 0xd800 && code <= 0xdbff) {
        if (cursor->end - cursor->at < 6 || cursor->at[0] != '\\' || cursor->at[1] != 'u') {
            return 0;
        }
        low = escape_unit(cursor->at + 2);
        if (low < 0xdc00 || low > 0xdfff) {
            return 0;
        }
        cursor->at += 6;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code <= 0xdfff) {
        return 0;
    }
    return code == 0 ? 0 : encode_utf8(code, room);
}

int64_t fieldsync_json_string(struct fieldsync_slice string, char *room, size_t room_bytes)
{
    struct cursor cursor;
    size_t length = 0, count, i;
    char unit[4];
    cursor.at = string.text;
    cursor.end = string.text + string.bytes;
    if (room_bytes == 0 || string.bytes < 2 || !skip_string(&cursor) || cursor.at != cursor.end) {
        return -1;
    }
    cursor.at = string.text + 1;
    cursor.end--;
    while (cursor.at < cursor.end) {
        unit[0] = *cursor.at++;
        count = unit[0] == '\\' ? decode_escape(&cursor, unit) : 1;
        if (count == 0 || room_bytes - length <= count) {
            return -1;
        }
        for (i = 0; i < count; i++) {
            room[length++] = unit[i];
        }
    }
    room[length] = '\0';
    return (int64_t)length;
}

int fieldsync_json_member(struct fieldsync_slice object, const char *name, struct fieldsync_slice *value)
{
    struct cursor cursor;
    struct fieldsync_slice found;
    char known[MAX_MEMBER_NAME_BYTES];
    const char *start;
    if (object.bytes == 0) {
        return 0;
    }
    cursor.at = object.text;
    cursor.end = object.text + object.bytes;
    skip_space(&cursor);
    if (!skip_char(&cursor, '{')) {
        return 0;
    }
    do {
        skip_space(&cursor);
        start = cursor.at;
        if (!skip_string(&cursor)) {
            return 0;
        }
        found = slice_of(start, (size_t)(cursor.at - start));
        skip_space(&cursor);
        if (!skip_char(&cursor, ':')) {
            return 0;
        }
        skip_space(&cursor);
        start = cursor.at;
        if (!skip_value(&cursor)) {
            return 0;
        }
        if (fieldsync_json_string(found, known, sizeof known) >= 0 && strcmp(known, name) == 0) {
            *value = slice_of(start, (size_t)(cursor.at - start));
            return 1;
        }
        skip_space(&cursor);
    } while (skip_char(&cursor, ','));
    return 0;
}

int fieldsync_json_element(struct fieldsync_slice array, size_t *position, struct fieldsync_slice *element)
{
    struct cursor cursor;
    const char *start;
    if (array.bytes == 0 || *position > array.bytes) {
        return 0;
    }
    cursor.at = array.text + *position;
    cursor.end = array.text + array.bytes;
    skip_space(&cursor);
    if (!skip_char(&cursor, *position == 0 ? '[' : ',')) {
        return 0;
    }
    skip_space(&cursor);
    start = cursor.at;
    if (!skip_value(&cursor)) {
        return 0;
    }
    *element = slice_of(start, (size_t)(cursor.at - start));
    *position = (size_t)(cursor.at - array.text);
    return 1;
}

int fieldsync_json_integer(struct fieldsync_slice number, int64_t *value)
{
    size_t at = number.bytes > 0 && number.text[0] == '-';
    int is_negative = at == 1;
    uint64_t magnitude = 0, digit, limit = (uint64_t)INT64_MAX + (uint64_t)is_negative;
    if (at == number.bytes) {
        return 0;
    }
    for (; at < number.bytes; at++) {
        if (number.text[at] < '0' || number.text[at] > '9') {
            return 0;
        }
        digit = (uint64_t)(number.text[at] - '0');
        if (magnitude > (limit - digit) / 10) {
            return 0;
        }
        magnitude = magnitude * 10 + digit;
    }
    if (!is_negative) {
        *value = (int64_t)magnitude;
    } else {
        *value = magnitude == limit ? INT64_MIN : -(int64_t)magnitude;
    }
    return 1;
}

static int append_json_string(struct buffer *buffer, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    char escape[6] = {'\\', 'u', '0', '0', '0', '0'};
    int is_ok = append(buffer, "\"", 1);
    for (; is_ok && *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\') {
            is_ok = append(buffer, "\\", 1) && append(buffer, text, 1);
        } else if (byte < 0x20) {
            escape[4] = hex[byte >> 4];
            escape[5] = hex[byte & 0xf];
            is_ok = append(buffer, escape, sizeof escape);
        } else {
            is_ok = append(buffer, text, 1);
        }
    }
    return is_ok && append(buffer, "\"", 1);
}

/* Copies the text of a member; empty if it is not there or too long. */
static void copy_member(struct fieldsync_slice object, const char *name, char *room, size_t room_bytes)
{
    struct fieldsync_slice value;
    if (!fieldsync_json_member(object, name, &value) || fieldsync_json_string(value, room, room_bytes) < 0) {
        room[0] = '\0';
    }
}

/* ---- Ids ---- */

/* 74 bits beside the time: 12 and 62. */
struct id_state {
    uint64_t time_ms;
    uint64_t high;
    uint64_t low;
};

#define LOW_BITS_MASK (((uint64_t)1 << 62) - 1)

static int read_random(unsigned char *bytes, size_t count)
{
    size_t done = 0;
    int file;
    do {
        file = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    } while (file < 0 && errno == EINTR);
    if (file < 0) {
        return 0;
    }
    while (done < count) {
        ssize_t got = read(file, bytes + done, count - done);
        if (got <= 0 && !(got < 0 && errno == EINTR)) {
            break;
        }
        done += got > 0 ? (size_t)got : 0;
    }
    close(file);
    return done == count;
}

static void set_random_bits(struct id_state *state, const unsigned char bytes[10])
{
    int i;
    /* The highest bit is zero, so that counting up has room. */
    state->high = ((uint64_t)(bytes[0] & 0x07) << 8) | bytes[1];
    state->low = 0;
    for (i = 2; i < 10; i++) {
        state->low = (state->low << 8) | bytes[i];
    }
    state->low &= LOW_BITS_MASK;
}

/* Counts up: ids ascend, also if the clock is set back. Returns whether new random bits are needed. */
static int advance_id(struct id_state *state, uint64_t now_ms)
{
    if (now_ms > state->time_ms) {
        state->time_ms = now_ms;
        return 1;
    }
    state->low = (state->low + 1) & LOW_BITS_MASK;
    if (state->low == 0) {
        state->high = (state->high + 1) & 0xfff;
        if (state->high == 0) {
            state->time_ms++;
            return 1;
        }
    }
    return 0;
}

static void format_id(const struct id_state *state, char id[FIELDSYNC_ID_BYTES])
{
    snprintf(id, FIELDSYNC_ID_BYTES, "%08lx-%04x-7%03x-%04x-%012llx",
             (unsigned long)((state->time_ms >> 16) & 0xffffffff), (unsigned)(state->time_ms & 0xffff),
             (unsigned)(state->high & 0xfff), (unsigned)(0x8000 | (state->low >> 48)),
             (unsigned long long)(state->low & 0xffffffffffff));
}

/* ---- HTTP responses ---- */

enum response_phase {
    READ_STATUS_LINE,
    READ_HEADERS,
    READ_BODY_OF_LENGTH,
    READ_BODY_TO_END,
    READ_CHUNK_SIZE,
    READ_CHUNK,
    READ_CHUNK_END,
    READ_TRAILERS,
    RESPONSE_COMPLETE
};

struct response {
    enum response_phase phase;
    int status;
    int64_t retry_after_s;
    int is_event_stream;
    int is_chunked;
    int has_length;
    uint64_t length;
    /* Of the body, or of the chunk. */
    uint64_t remaining;
    size_t head_bytes;
    size_t max_body_bytes;
    struct buffer line;
    struct buffer body;
};

static void reset_response(struct response *response, size_t max_body_bytes)
{
    clear(&response->line);
    clear(&response->body);
    response->phase = READ_STATUS_LINE;
    response->status = 0;
    response->retry_after_s = -1;
    response->is_event_stream = response->is_chunked = response->has_length = 0;
    response->length = response->remaining = 0;
    response->head_bytes = 0;
    response->max_body_bytes = max_body_bytes;
}

static void release_response(struct response *response)
{
    release(&response->line);
    release(&response->body);
}

static char lower(char letter)
{
    return letter >= 'A' && letter <= 'Z' ? (char)(letter + ('a' - 'A')) : letter;
}

/* Compares without case; the second text is in lower case. */
static int equals(const char *text, size_t bytes, const char *other)
{
    size_t i;
    if (strlen(other) != bytes) {
        return 0;
    }
    for (i = 0; i < bytes; i++) {
        if (lower(text[i]) != other[i]) {
            return 0;
        }
    }
    return 1;
}

/* Reads digits only. Returns 0 if there are others, none, or too many. */
static int read_digits(const char *text, size_t bytes, uint64_t *value)
{
    size_t i;
    *value = 0;
    if (bytes == 0 || bytes > 18) {
        return 0;
    }
    for (i = 0; i < bytes; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return 0;
        }
        *value = *value * 10 + (uint64_t)(text[i] - '0');
    }
    return 1;
}

static int parse_status_line(struct response *response, const char *line, size_t bytes)
{
    uint64_t status;
    if (bytes < 12 || memcmp(line, "HTTP/1.", 7) != 0 || line[7] < '0' || line[7] > '9' || line[8] != ' ' ||
        !read_digits(line + 9, 3, &status) || (bytes > 12 && line[12] != ' ') || status < 100 || status > 599) {
        return 0;
    }
    response->status = (int)status;
    response->phase = READ_HEADERS;
    return 1;
}

static int parse_header(struct response *response, const char *line, size_t bytes)
{
    const char *colon = (const char *)memchr(line, ':', bytes), *value;
    size_t name_bytes, value_bytes, i;
    uint64_t number;
    if (colon == NULL || colon == line) {
        return 0;
    }
    name_bytes = (size_t)(colon - line);
    for (i = 0; i < name_bytes; i++) {
        if ((unsigned char)line[i] <= ' ' || line[i] == 0x7f) {
            return 0;
        }
    }
    value = colon + 1;
    value_bytes = bytes - name_bytes - 1;
    while (value_bytes > 0 && (*value == ' ' || *value == '\t')) {
        value++;
        value_bytes--;
    }
    while (value_bytes > 0 && (value[value_bytes - 1] == ' ' || value[value_bytes - 1] == '\t')) {
        value_bytes--;
    }
    if (equals(line, name_bytes, "content-length")) {
        if (!read_digits(value, value_bytes, &number) || (response->has_length && number != response->length)) {
            return 0;
        }
        response->has_length = 1;
        response->length = number;
    } else if (equals(line, name_bytes, "transfer-encoding")) {
        if (response->is_chunked || !equals(value, value_bytes, "chunked")) {
            return 0;
        }
        response->is_chunked = 1;
    } else if (equals(line, name_bytes, "retry-after")) {
        if (value_bytes <= 9 && read_digits(value, value_bytes, &number)) {
            response->retry_after_s = (int64_t)number;
        }
    } else if (equals(line, name_bytes, "content-type")) {
        static const char events[] = "text/event-stream";
        size_t length = sizeof events - 1;
        response->is_event_stream = value_bytes >= length && equals(value, length, events) &&
                                    (value_bytes == length || strchr("; \t", value[length]) != NULL);
    }
    return 1;
}

static int end_head(struct response *response)
{
    if (response->status < 200) {
        size_t head_bytes = response->head_bytes;
        reset_response(response, response->max_body_bytes);
        response->head_bytes = head_bytes;
        return 1;
    }
    if (response->status == 204 || response->status == 304) {
        response->phase = RESPONSE_COMPLETE;
    } else if (response->is_chunked) {
        response->phase = READ_CHUNK_SIZE;
    } else if (response->has_length) {
        response->remaining = response->length;
        response->phase = response->remaining > 0 ? READ_BODY_OF_LENGTH : RESPONSE_COMPLETE;
        return response->length <= response->max_body_bytes;
    } else {
        response->phase = READ_BODY_TO_END;
    }
    return 1;
}

static int parse_chunk_size(struct response *response, const char *line, size_t bytes)
{
    size_t i;
    response->remaining = 0;
    for (i = 0; i < bytes && hex_digit(line[i]) >= 0; i++) {
        if (response->remaining > UINT64_MAX >> 8) {
            return 0;
        }
        response->remaining = response->remaining * 16 + (uint64_t)hex_digit(line[i]);
    }
    if (i == 0 || (i < bytes && strchr("; \t", line[i]) == NULL)) {
        return 0;
    }
    response->phase = response->remaining > 0 ? READ_CHUNK : READ_TRAILERS;
    return 1;
}

static int parse_line(struct response *response, const char *line, size_t bytes)
{
    switch (response->phase) {
    case READ_STATUS_LINE:
        return parse_status_line(response, line, bytes);
    case READ_HEADERS:
        return bytes == 0 ? end_head(response) : parse_header(response, line, bytes);
    case READ_CHUNK_SIZE:
        return parse_chunk_size(response, line, bytes);
    case READ_CHUNK_END:
        response->phase = READ_CHUNK_SIZE;
        return bytes == 0;
    case READ_TRAILERS:
        response->phase = bytes == 0 ? RESPONSE_COMPLETE : READ_TRAILERS;
        return 1;
    default:
        return 0;
    }
}

/* Takes bytes up to the end of a line. Returns how many, or 0 if the line is wrong or too long. */
static size_t take_line(struct response *response, const char *bytes, size_t count, struct fieldsync_error *error)
{
    const char *newline = (const char *)memchr(bytes, '\n', count);
    size_t taken = newline == NULL ? count : (size_t)(newline - bytes) + 1, length;
    int is_chunk_line = response->phase == READ_CHUNK_SIZE || response->phase == READ_CHUNK_END;
    size_t max_bytes = is_chunk_line ? MAX_CHUNK_LINE_BYTES : MAX_HEAD_BYTES;
    size_t held = is_chunk_line ? response->line.length : response->head_bytes;
    if (taken > max_bytes || held > max_bytes - taken) {
        fail(error, FIELDSYNC_PROTOCOL, "the head of the response is larger than %zu bytes", max_bytes);
        return 0;
    }
    if (!is_chunk_line) {
        response->head_bytes += taken;
    }
    if (!append(&response->line, bytes, taken)) {
        fail_memory(error);
        return 0;
    }
    if (newline == NULL) {
        return taken;
    }
    length = response->line.length - 1;
    if (length > 0 && response->line.data[length - 1] == '\r') {
        length--;
    }
    if (!parse_line(response, response->line.data, length)) {
        fail(error, FIELDSYNC_PROTOCOL, "the response is not valid HTTP, or too large");
        return 0;
    }
    clear(&response->line);
    return taken;
}

/* Takes bytes of the body. Returns how many, or 0 if they are too many. */
static size_t take_body(struct response *response, const char *bytes, size_t count, struct fieldsync_error *error)
{
    if (response->phase != READ_BODY_TO_END && count > response->remaining) {
        count = (size_t)response->remaining;
    }
    if (count > response->max_body_bytes || response->body.length > response->max_body_bytes - count) {
        fail(error, FIELDSYNC_PROTOCOL, "the response is larger than %zu bytes", response->max_body_bytes);
        return 0;
    }
    if (!append(&response->body, bytes, count)) {
        fail_memory(error);
        return 0;
    }
    if (response->phase != READ_BODY_TO_END) {
        response->remaining -= count;
        if (response->remaining == 0) {
            response->phase = response->phase == READ_CHUNK ? READ_CHUNK_END : RESPONSE_COMPLETE;
        }
    }
    return count;
}

/* Takes what arrived; bytes after the end of the response are ignored. */
static enum fieldsync_error_kind feed_response(struct response *response, const char *bytes, size_t count,
                                               struct fieldsync_error *error)
{
    while (count > 0 && response->phase != RESPONSE_COMPLETE) {
        int is_body = response->phase == READ_BODY_OF_LENGTH || response->phase == READ_BODY_TO_END ||
                      response->phase == READ_CHUNK;
        size_t taken = is_body ? take_body(response, bytes, count, error) : take_line(response, bytes, count, error);
        if (taken == 0) {
            return error->kind;
        }
        bytes += taken;
        count -= taken;
    }
    return FIELDSYNC_OK;
}

/* Whether the head of the response is complete. */
static int has_head(const struct response *response)
{
    return response->phase != READ_STATUS_LINE && response->phase != READ_HEADERS;
}

/* The end of the connection. Returns whether the response is complete. */
static int end_response(struct response *response)
{
    if (response->phase == READ_BODY_TO_END) {
        response->phase = RESPONSE_COMPLETE;
    }
    return response->phase == RESPONSE_COMPLETE;
}

static enum fieldsync_error_kind kind_of(int status, const char *code)
{
    switch (status) {
    case 403:
        return FIELDSYNC_NOT_PERMITTED;
    case 404:
        return strcmp(code, "no_such_record") == 0 ? FIELDSYNC_NO_SUCH_RECORD : FIELDSYNC_INVALID_REQUEST;
    case 408:
    case 500:
    case 503:
        return FIELDSYNC_UNAVAILABLE;
    case 409:
        return FIELDSYNC_CONFLICT;
    case 410:
        return FIELDSYNC_CURSOR_EXPIRED;
    case 507:
        return FIELDSYNC_QUEUE_FULL;
    default:
        return status < 500 ? FIELDSYNC_INVALID_REQUEST : FIELDSYNC_API;
    }
}

/* Copies the message of an error, cut to the room for it. */
static void copy_message(struct fieldsync_slice details, struct fieldsync_error *error)
{
    struct fieldsync_slice value;
    char *message;
    if (!fieldsync_json_member(details, "message", &value) || (message = (char *)malloc(value.bytes + 1)) == NULL) {
        return;
    }
    if (fieldsync_json_string(value, message, value.bytes + 1) > 0) {
        snprintf(error->message, sizeof error->message, "%s", message);
        trim_utf8(error->message);
    }
    free(message);
}

/* The error for a response that is not the expected one. */
static enum fieldsync_error_kind fail_response(const struct response *response, struct fieldsync_error *error)
{
    struct fieldsync_slice body = slice_of(response->body.data, response->body.length), value;
    if (response->status < 400) {
        return fail(error, FIELDSYNC_PROTOCOL, "the response has the unexpected status %d", response->status);
    }
    fail(error, FIELDSYNC_API, "the daemon responded with status %d", response->status);
    error->status = response->status;
    error->retry_after_s = response->retry_after_s;
    if (is_json_object(body.text, body.bytes) && fieldsync_json_member(body, "error", &value)) {
        copy_member(value, "code", error->code, sizeof error->code);
        copy_message(value, error);
        if (!fieldsync_json_member(value, "position", &body) || !fieldsync_json_integer(body, &error->position)) {
            error->position = 0;
        }
    }
    error->kind = kind_of(error->status, error->code);
    return error->kind;
}

/* ---- Server-Sent Events ---- */

struct event_parser {
    struct buffer pending;
    /* In pending. */
    size_t at;
    int is_first_line;
    int is_after_return;
    struct buffer line;
    struct buffer name;
    struct buffer data;
    int has_data;
    /* Of the event that is being read. */
    struct buffer id;
    /* Of the last event that has ended. Stays over connections. */
    struct buffer last_id;
    int64_t retry_ms;
    size_t max_bytes;
};

/* For a new connection. Returns 0 if there is not enough memory. */
static int reset_parser(struct event_parser *parser)
{
    clear(&parser->pending);
    clear(&parser->line);
    clear(&parser->name);
    clear(&parser->data);
    parser->at = 0;
    parser->is_first_line = 1;
    parser->is_after_return = 0;
    parser->has_data = 0;
    parser->retry_ms = -1;
    clear(&parser->id);
    return append(&parser->id, parser->last_id.data == NULL ? "" : parser->last_id.data, parser->last_id.length);
}

static void release_parser(struct event_parser *parser)
{
    release(&parser->pending);
    release(&parser->line);
    release(&parser->name);
    release(&parser->data);
    release(&parser->id);
    release(&parser->last_id);
}

/* Takes what arrived. All events of earlier bytes must have been read. */
static int push_event_bytes(struct event_parser *parser, const char *bytes, size_t count)
{
    clear(&parser->pending);
    parser->at = 0;
    return append(&parser->pending, bytes, count);
}

static int set_field(struct event_parser *parser, const char *name, size_t name_bytes, const char *value,
                     size_t value_bytes, struct fieldsync_error *error)
{
    uint64_t number;
    int is_ok = 1;
    if (name_bytes == 5 && memcmp(name, "event", 5) == 0) {
        clear(&parser->name);
        is_ok = append(&parser->name, value, value_bytes);
    } else if (name_bytes == 4 && memcmp(name, "data", 4) == 0) {
        is_ok = (!parser->has_data || append(&parser->data, "\n", 1)) && append(&parser->data, value, value_bytes);
        parser->has_data = 1;
    } else if (name_bytes == 2 && memcmp(name, "id", 2) == 0 && memchr(value, '\0', value_bytes) == NULL) {
        if (value_bytes > MAX_EVENT_ID_BYTES) {
            fail(error, FIELDSYNC_PROTOCOL, "the id of an event is larger than %zu bytes", MAX_EVENT_ID_BYTES);
            return 0;
        }
        clear(&parser->id);
        is_ok = append(&parser->id, value, value_bytes);
    } else if (name_bytes == 5 && memcmp(name, "retry", 5) == 0 && read_digits(value, value_bytes, &number)) {
        parser->retry_ms = (int64_t)number;
    }
    if (!is_ok) {
        fail_memory(error);
    }
    return is_ok;
}

/* Reads a line with a field, or a comment. */
static int parse_field(struct event_parser *parser, struct fieldsync_error *error)
{
    const char *line = parser->line.data, *colon, *value;
    size_t bytes = parser->line.length, name_bytes, value_bytes;
    colon = (const char *)memchr(line, ':', bytes);
    name_bytes = colon == NULL ? bytes : (size_t)(colon - line);
    value = colon == NULL ? line + bytes : colon + 1;
    value_bytes = (size_t)(line + bytes - value);
    if (value_bytes > 0 && *value == ' ') {
        value++;
        value_bytes--;
    }
    return set_field(parser, line, name_bytes, value, value_bytes, error);
}

/* Appends bytes to the line, within the limit of an event. */
static int extend_line(struct event_parser *parser, const char *bytes, size_t count, struct fieldsync_error *error)
{
    size_t held = parser->line.length + parser->data.length + parser->name.length;
    if (count > parser->max_bytes || held > parser->max_bytes - count) {
        fail(error, FIELDSYNC_PROTOCOL, "an event is larger than %zu bytes", parser->max_bytes);
        return 0;
    }
    if (!append(&parser->line, bytes, count)) {
        fail_memory(error);
        return 0;
    }
    return 1;
}

/* Reads on until the end of an event. Returns 1, 0 if more bytes are needed, or -1 after an error. */
static int parse_event(struct event_parser *parser, struct fieldsync_error *error)
{
    while (parser->at < parser->pending.length) {
        const char *bytes = parser->pending.data + parser->at;
        size_t left = parser->pending.length - parser->at, count = 0;
        if (parser->is_after_return && *bytes == '\n') {
            parser->is_after_return = 0;
            parser->at++;
            continue;
        }
        while (count < left && bytes[count] != '\n' && bytes[count] != '\r') {
            count++;
        }
        parser->is_after_return = 0;
        if (!extend_line(parser, bytes, count, error)) {
            return -1;
        }
        parser->at += count;
        if (count == left) {
            return 0;
        }
        parser->at++;
        parser->is_after_return = bytes[count] == '\r';
        if (parser->is_first_line && parser->line.length >= 3 && memcmp(parser->line.data, "\xef\xbb\xbf", 3) == 0) {
            parser->line.length -= 3;
            memmove(parser->line.data, parser->line.data + 3, parser->line.length + 1);
        }
        parser->is_first_line = 0;
        if (parser->line.length > 0) {
            int is_ok = parse_field(parser, error);
            clear(&parser->line);
            if (!is_ok) {
                return -1;
            }
        } else {
            clear(&parser->last_id);
            if (!append(&parser->last_id, parser->id.data, parser->id.length)) {
                fail_memory(error);
                return -1;
            }
            if (parser->has_data) {
                return 1;
            }
            clear(&parser->name);
        }
    }
    return 0;
}

/* Prepares for the next event, once the caller has used the last one. */
static void end_event(struct event_parser *parser)
{
    clear(&parser->name);
    clear(&parser->data);
    parser->has_data = 0;
}

/* ---- Clients and sockets ---- */

struct fieldsync_client {
    char *socket_path;
    size_t max_response_bytes;
    /* fieldsync_cancel writes to the second, and all waits look at the first. */
    int cancel_pipe[2];
    struct id_state ids;
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t deadline_after(int64_t time_limit_ms)
{
    time_limit_ms = time_limit_ms < 0 ? FIELDSYNC_TIME_LIMIT_MS : time_limit_ms;
    return now_ms() + (time_limit_ms > MAX_TIME_LIMIT_MS ? MAX_TIME_LIMIT_MS : time_limit_ms);
}

static int64_t min_time(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

static int64_t max_time(int64_t one, int64_t other)
{
    return one > other ? one : other;
}

static int set_flags(int descriptor)
{
    int flags = fcntl(descriptor, F_GETFL);
    return flags >= 0 && fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0 &&
           fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0;
}

struct fieldsync_client *fieldsync_client_new(const char *socket_path)
{
    struct fieldsync_client *client;
    struct sockaddr_un address;
    size_t bytes;
    int error;
    if (socket_path == NULL || *socket_path == '\0') {
        socket_path = getenv("FIELDSYNC_SOCKET");
    }
    if (socket_path == NULL || *socket_path == '\0') {
        socket_path = DEFAULT_SOCKET;
    }
    bytes = strlen(socket_path) + 1;
    if (bytes > sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    client = (struct fieldsync_client *)calloc(1, sizeof *client);
    if (client == NULL) {
        return NULL;
    }
    client->max_response_bytes = DEFAULT_MAX_RESPONSE_BYTES;
    client->socket_path = (char *)malloc(bytes);
    if (client->socket_path == NULL || pipe(client->cancel_pipe) != 0) {
        error = errno;
        free(client->socket_path);
        free(client);
        errno = error;
        return NULL;
    }
    memcpy(client->socket_path, socket_path, bytes);
    if (!set_flags(client->cancel_pipe[0]) || !set_flags(client->cancel_pipe[1])) {
        fieldsync_client_free(client);
        return NULL;
    }
    return client;
}

void fieldsync_client_free(struct fieldsync_client *client)
{
    if (client != NULL) {
        close(client->cancel_pipe[0]);
        close(client->cancel_pipe[1]);
        free(client->socket_path);
        free(client);
    }
}

void fieldsync_set_max_response_bytes(struct fieldsync_client *client, size_t bytes)
{
    client->max_response_bytes = bytes;
}

void fieldsync_cancel(struct fieldsync_client *client)
{
    int saved = errno;
    /* If the pipe is full, it is readable, which is what counts. */
    ssize_t written = write(client->cancel_pipe[1], "", 1);
    (void)written;
    errno = saved;
}

void fieldsync_reset_cancel(struct fieldsync_client *client)
{
    char room[64];
    ssize_t got;
    do {
        got = read(client->cancel_pipe[0], room, sizeof room);
    } while (got > 0 || (got < 0 && errno == EINTR));
}

void fieldsync_free(void *text)
{
    free(text);
}

enum fieldsync_error_kind fieldsync_new_id(struct fieldsync_client *client, char id[FIELDSYNC_ID_BYTES])
{
    struct timespec now;
    unsigned char bytes[10];
    clock_gettime(CLOCK_REALTIME, &now);
    if (advance_id(&client->ids, (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000)) {
        if (!read_random(bytes, sizeof bytes)) {
            client->ids.time_ms = 0;
            id[0] = '\0';
            return FIELDSYNC_SYSTEM;
        }
        set_random_bits(&client->ids, bytes);
    }
    format_id(&client->ids, id);
    return FIELDSYNC_OK;
}

/*
 * Waits until the socket is ready, or, without one, until the deadline. Returns FIELDSYNC_OK if it is ready, else
 * FIELDSYNC_TIME_LIMIT or FIELDSYNC_CANCELLED.
 */
static enum fieldsync_error_kind wait_ready(struct fieldsync_client *client, int descriptor, short wanted,
                                            int64_t deadline)
{
    struct pollfd polled[2];
    polled[0].fd = client->cancel_pipe[0];
    polled[0].events = POLLIN;
    polled[1].fd = descriptor;
    polled[1].events = wanted;
    for (;;) {
        int64_t left = deadline - now_ms();
        int timeout = left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left, ready;
        polled[0].revents = polled[1].revents = 0;
        ready = poll(polled, descriptor < 0 ? 1 : 2, timeout);
        if (ready > 0 && polled[0].revents != 0) {
            return FIELDSYNC_CANCELLED;
        }
        if (ready > 0) {
            return FIELDSYNC_OK;
        }
        if (now_ms() >= deadline) {
            return FIELDSYNC_TIME_LIMIT;
        }
    }
}

static enum fieldsync_error_kind fail_wait(struct fieldsync_error *error, enum fieldsync_error_kind kind)
{
    const char *message = kind == FIELDSYNC_CANCELLED ? "the call was cancelled" : "there was no response in time";
    return fail(error, kind, "%s", message);
}

/* What is known of a failed attempt beside its error. */
struct failure {
    /* There was no connection, so the daemon has nothing of the request. */
    int is_refused;
    /* The user may not open the socket. */
    int is_denied;
    /* The connection queue of the socket is full. */
    int is_crowded;
};

/* Connects at once, or not at all: the kernel does not let connections to Unix sockets wait. */
static int open_socket(struct fieldsync_client *client, struct failure *failure, struct fieldsync_error *error)
{
    struct sockaddr_un address;
    int code, result, descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    memset(failure, 0, sizeof *failure);
    if (descriptor < 0 || !set_flags(descriptor)) {
        fail(error, FIELDSYNC_CONNECTION_FAILED, "no socket could be opened: error %d", errno);
        if (descriptor >= 0) {
            close(descriptor);
        }
        return -1;
    }
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, client->socket_path, strlen(client->socket_path) + 1);
    do {
        result = connect(descriptor, (const struct sockaddr *)&address, sizeof address);
    } while (result != 0 && errno == EINTR);
    if (result == 0) {
        return descriptor;
    }
    code = errno;
    close(descriptor);
    failure->is_refused = 1;
    failure->is_denied = code == EACCES;
    failure->is_crowded = code == EAGAIN;
    if (failure->is_denied) {
        fail(error, FIELDSYNC_CONNECTION_FAILED,
             "the socket %s may not be opened; is the user a member of the group fieldsync?", client->socket_path);
    } else {
        const char *reason = code == ENOENT         ? "the socket does not exist"
                             : code == ECONNREFUSED ? "nothing listens at the socket"
                                                    : "the connection failed";
        fail(error, FIELDSYNC_CONNECTION_FAILED, "there is no daemon at %s: %s (error %d)", client->socket_path, reason,
             code);
    }
    return -1;
}

static void fail_lost(struct fieldsync_client *client, struct fieldsync_error *error)
{
    fail(error, FIELDSYNC_CONNECTION_FAILED,
         "the connection to %s was lost before the response; the outcome is unknown", client->socket_path);
}

enum transfer { TRANSFERRED, WOULD_BLOCK, CONNECTION_ENDED, TRANSFER_FAILED };

/* Sends a part of a request. If the daemon reads no more, its response may already be there, so that is no failure. */
static void send_some(int descriptor, const char *bytes, size_t count, size_t *sent)
{
    ssize_t done;
    do {
        done = send(descriptor, bytes + *sent, count - *sent, MSG_NOSIGNAL);
    } while (done < 0 && errno == EINTR);
    if (done >= 0) {
        *sent += (size_t)done;
    } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
        *sent = count;
    }
}

/* Reads what is there into the response. */
static enum transfer receive_some(struct fieldsync_client *client, int descriptor, struct response *response,
                                  char *room, struct fieldsync_error *error)
{
    ssize_t got;
    do {
        got = recv(descriptor, room, READ_BYTES, 0);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return WOULD_BLOCK;
    }
    if (got > 0) {
        return feed_response(response, room, (size_t)got, error) == FIELDSYNC_OK ? TRANSFERRED : TRANSFER_FAILED;
    }
    if (got == 0 && end_response(response)) {
        return CONNECTION_ENDED;
    }
    fail_lost(client, error);
    return got == 0 ? CONNECTION_ENDED : TRANSFER_FAILED;
}

/* ---- Single requests ---- */

struct request {
    const char *method;
    const char *path;
    /* NULL: none. */
    const struct buffer *body;
    int expected_status;
};

static int build_head(struct buffer *head, const struct request *request, const char *last_event_id)
{
    char length[80] = "";
    clear(head);
    if (request->body != NULL) {
        snprintf(length, sizeof length, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                 request->body->length);
    }
    if (!append_text(head, request->method) || !append_text(head, " ") || !append_text(head, request->path) ||
        !append_text(head, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n") || !append_text(head, length)) {
        return 0;
    }
    if (last_event_id != NULL && (!append_text(head, "Accept: text/event-stream\r\n"))) {
        return 0;
    }
    if (last_event_id != NULL && *last_event_id != '\0' &&
        (!append_text(head, "Last-Event-ID: ") || !append_text(head, last_event_id) || !append_text(head, "\r\n"))) {
        return 0;
    }
    return append_text(head, "\r\n");
}

/* Exchanges the request and its response over a connection. */
static enum fieldsync_error_kind exchange_on(struct fieldsync_client *client, int descriptor,
                                             const struct request *request, const struct buffer *head, char *room,
                                             int64_t deadline, struct response *response,
                                             struct fieldsync_error *error)
{
    size_t head_sent = 0, body_sent = 0, body_bytes = request->body == NULL ? 0 : request->body->length;
    while (response->phase != RESPONSE_COMPLETE) {
        int is_sending = head_sent < head->length || body_sent < body_bytes;
        enum fieldsync_error_kind kind =
            wait_ready(client, descriptor, (short)(is_sending ? POLLIN | POLLOUT : POLLIN), deadline);
        if (kind != FIELDSYNC_OK) {
            return fail_wait(error, kind);
        }
        if (now_ms() >= deadline) {
            return fail_wait(error, FIELDSYNC_TIME_LIMIT);
        }
        if (head_sent < head->length) {
            send_some(descriptor, head->data, head->length, &head_sent);
        } else if (body_sent < body_bytes) {
            send_some(descriptor, request->body->data, body_bytes, &body_sent);
        }
        switch (receive_some(client, descriptor, response, room, error)) {
        case TRANSFERRED:
        case WOULD_BLOCK:
            break;
        case CONNECTION_ENDED:
        case TRANSFER_FAILED:
            if (response->phase != RESPONSE_COMPLETE) {
                return error->kind;
            }
            break;
        }
    }
    return FIELDSYNC_OK;
}

/* One attempt: connects, sends the request, and reads its response, which must be a JSON object. */
static enum fieldsync_error_kind attempt_request(struct fieldsync_client *client, const struct request *request,
                                                 int64_t deadline, struct response *response,
                                                 struct failure *failure, struct fieldsync_error *error)
{
    struct buffer head = {NULL, 0, 0};
    int64_t attempt_deadline = min_time(deadline, now_ms() + ATTEMPT_LIMIT_MS);
    char *room = (char *)malloc(READ_BYTES);
    int descriptor = -1;
    reset_response(response, client->max_response_bytes);
    memset(failure, 0, sizeof *failure);
    if (room == NULL || !build_head(&head, request, NULL)) {
        fail_memory(error);
    } else {
        for (;;) {
            enum fieldsync_error_kind kind;
            descriptor = open_socket(client, failure, error);
            if (descriptor >= 0 || !failure->is_crowded) {
                break;
            }
            kind = wait_ready(client, -1, 0, min_time(attempt_deadline, now_ms() + ACCEPT_RETRY_MS));
            if (kind == FIELDSYNC_CANCELLED || now_ms() >= attempt_deadline) {
                fail_wait(error, kind);
                break;
            }
        }
    }
    if (descriptor >= 0) {
        succeed(error);
        exchange_on(client, descriptor, request, &head, room, attempt_deadline, response, error);
        close(descriptor);
    }
    free(room);
    release(&head);
    if (descriptor < 0 || error->kind != FIELDSYNC_OK) {
        return error->kind;
    }
    if (response->status != request->expected_status) {
        return fail_response(response, error);
    }
    if (!is_json_object(response->body.data, response->body.length)) {
        return fail(error, FIELDSYNC_PROTOCOL, "the body of the response is not a JSON object");
    }
    return FIELDSYNC_OK;
}

/* ---- The retry schedule ---- */

struct retry_schedule {
    int64_t delay_ms;
    int is_quick_retry_left;
    int is_denied_retry_left;
    int is_last_attempt_left;
};

static void start_schedule(struct retry_schedule *schedule)
{
    schedule->delay_ms = MIN_RETRY_MS;
    schedule->is_quick_retry_left = 1;
    schedule->is_denied_retry_left = 1;
    schedule->is_last_attempt_left = 1;
}

/* Whether the same request may succeed later. */
static int is_repeatable(const struct fieldsync_error *error, const struct failure *failure)
{
    switch (error->kind) {
    case FIELDSYNC_CONNECTION_FAILED:
        /* A process gets no further groups, so this stays. */
        return !failure->is_denied;
    case FIELDSYNC_UNAVAILABLE:
        return error->status != 500 || strcmp(error->code, "store_failed") == 0;
    case FIELDSYNC_QUEUE_FULL:
    case FIELDSYNC_TIME_LIMIT:
        return 1;
    default:
        return 0;
    }
}

/* The delay before the next attempt; -1: there is none. */
static int64_t next_delay_ms(struct retry_schedule *schedule, const struct fieldsync_error *error,
                             const struct failure *failure, int64_t remaining_ms)
{
    int64_t delay_ms;
    if (failure->is_denied && schedule->is_denied_retry_left && QUICK_RETRY_MS < remaining_ms) {
        /* The daemon sets the mode of a new socket just after it made it. */
        schedule->is_denied_retry_left = 0;
        return QUICK_RETRY_MS;
    }
    if (!is_repeatable(error, failure)) {
        return -1;
    }
    if (failure->is_refused && schedule->is_quick_retry_left && QUICK_RETRY_MS < remaining_ms) {
        schedule->is_quick_retry_left = 0;
        return QUICK_RETRY_MS;
    }
    if (error->kind == FIELDSYNC_UNAVAILABLE || error->kind == FIELDSYNC_QUEUE_FULL) {
        delay_ms = error->kind == FIELDSYNC_QUEUE_FULL ? FULL_RETRY_MS : UNAVAILABLE_RETRY_MS;
        delay_ms = error->retry_after_s >= 0 ? error->retry_after_s * 1000 : delay_ms;
        delay_ms = max_time(delay_ms, QUICK_RETRY_MS);
        return delay_ms < remaining_ms ? delay_ms : -1;
    }
    delay_ms = schedule->delay_ms;
    schedule->delay_ms = min_time(2 * delay_ms, MAX_RETRY_MS);
    if (delay_ms < remaining_ms) {
        return delay_ms;
    }
    if (!schedule->is_last_attempt_left || remaining_ms <= 0) {
        return -1;
    }
    schedule->is_last_attempt_left = 0;
    return remaining_ms > 2 * LAST_ATTEMPT_MS ? remaining_ms - LAST_ATTEMPT_MS : remaining_ms / 2;
}

/* Makes an error that of the time limit, with the last cause. */
static enum fieldsync_error_kind fail_time_limit(struct fieldsync_error *error, const struct fieldsync_error *cause)
{
    struct fieldsync_error last = *cause;
    static const char text[] = "the time limit is over; the last attempt failed: ";
    fail(error, FIELDSYNC_TIME_LIMIT, "%s%.*s", text, (int)(sizeof last.message - sizeof text), last.message);
    error->status = last.status;
    error->retry_after_s = last.retry_after_s;
    memcpy(error->code, last.code, sizeof error->code);
    return error->kind;
}

/* Repeats a request until it succeeds, fails permanently, or no further attempt fits into the time limit. */
static enum fieldsync_error_kind repeat_request(struct fieldsync_client *client, const struct request *request,
                                                int64_t deadline, struct response *response,
                                                struct fieldsync_error *error)
{
    struct retry_schedule schedule;
    struct fieldsync_error cause;
    struct failure failure;
    start_schedule(&schedule);
    fail(&cause, FIELDSYNC_TIME_LIMIT, "there was no response in time");
    for (;;) {
        enum fieldsync_error_kind kind = attempt_request(client, request, deadline, response, &failure, error);
        int64_t delay_ms;
        if (kind == FIELDSYNC_OK) {
            return kind;
        }
        if (kind == FIELDSYNC_TIME_LIMIT && now_ms() >= deadline) {
            return fail_time_limit(error, &cause);
        }
        cause = *error;
        delay_ms = next_delay_ms(&schedule, error, &failure, deadline - now_ms());
        if (delay_ms < 0) {
            int is_final = kind == FIELDSYNC_QUEUE_FULL || !is_repeatable(error, &failure);
            return is_final ? kind : fail_time_limit(error, &cause);
        }
        if (wait_ready(client, -1, 0, now_ms() + delay_ms) == FIELDSYNC_CANCELLED) {
            return fail_wait(error, FIELDSYNC_CANCELLED);
        }
    }
}

/* ---- Calls ---- */

/* Hands the body of a response over to the caller. */
static void take_text(struct response *response, char **text)
{
    *text = response->body.data;
    memset(&response->body, 0, sizeof response->body);
}

/* A call with one attempt, whose result is the body of the response. */
static enum fieldsync_error_kind call_once(struct fieldsync_client *client, const struct request *request,
                                           int64_t time_limit_ms, char **json, struct fieldsync_error *error)
{
    struct response response;
    struct failure failure;
    enum fieldsync_error_kind kind;
    memset(&response, 0, sizeof response);
    *json = NULL;
    kind = attempt_request(client, request, deadline_after(time_limit_ms), &response, &failure, error);
    if (kind == FIELDSYNC_OK) {
        take_text(&response, json);
        succeed(error);
    }
    release_response(&response);
    return kind;
}

static int append_encoded(struct buffer *buffer, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    char escape[3] = {'%', '0', '0'};
    int is_ok = 1;
    for (; is_ok && *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if ((byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
            byte == '-' || byte == '_' || byte == '.' || byte == '~') {
            is_ok = append(buffer, text, 1);
        } else {
            escape[1] = hex[byte >> 4];
            escape[2] = hex[byte & 0xf];
            is_ok = append(buffer, escape, sizeof escape);
        }
    }
    return is_ok;
}

enum fieldsync_error_kind fieldsync_status(struct fieldsync_client *client, int64_t time_limit_ms, char **json,
                                           struct fieldsync_error *error)
{
    struct fieldsync_error unused;
    struct request request = {"GET", "/v1/status", NULL, 200};
    return call_once(client, &request, time_limit_ms, json, error == NULL ? &unused : error);
}

enum fieldsync_error_kind fieldsync_lookup(struct fieldsync_client *client, const char *const *ids, size_t count,
                                           int64_t time_limit_ms, char **json, struct fieldsync_error *error)
{
    struct fieldsync_error unused;
    struct buffer body = {NULL, 0, 0};
    struct request request = {"POST", "/v1/records/lookup", NULL, 200};
    enum fieldsync_error_kind kind;
    int is_ok = append_text(&body, "{\"ids\":[");
    size_t i;
    error = error == NULL ? &unused : error;
    request.body = &body;
    *json = NULL;
    for (i = 0; is_ok && i < count; i++) {
        is_ok = (i == 0 || append(&body, ",", 1)) && append_json_string(&body, ids[i]);
    }
    is_ok = is_ok && append_text(&body, "]}");
    kind = is_ok ? call_once(client, &request, time_limit_ms, json, error) : fail_memory(error);
    release(&body);
    return kind;
}

enum fieldsync_error_kind fieldsync_changes(struct fieldsync_client *client, const char *cursor, int64_t time_limit_ms,
                                            char **json, struct fieldsync_error *error)
{
    struct fieldsync_error unused;
    struct buffer path = {NULL, 0, 0};
    struct request request = {"GET", NULL, NULL, 200};
    enum fieldsync_error_kind kind;
    error = error == NULL ? &unused : error;
    *json = NULL;
    if (!append_text(&path, "/v1/records?changed_after=") || !append_encoded(&path, cursor)) {
        kind = fail_memory(error);
    } else {
        request.path = path.data;
        kind = call_once(client, &request, time_limit_ms, json, error);
    }
    release(&path);
    return kind;
}

void fieldsync_entry_clear(struct fieldsync_entry *entry)
{
    free(entry->receipt_json);
    free(entry->json);
    memset(entry, 0, sizeof *entry);
}

/* Makes an entry of the body of a response. */
static enum fieldsync_error_kind read_entry(struct response *response, struct fieldsync_entry *entry,
                                            struct fieldsync_error *error)
{
    struct fieldsync_entry fresh;
    struct fieldsync_slice body = slice_of(response->body.data, response->body.length), receipt;
    memset(&fresh, 0, sizeof fresh);
    copy_member(body, "id", fresh.id, sizeof fresh.id);
    copy_member(body, "state", fresh.state, sizeof fresh.state);
    if (fresh.id[0] == '\0' || fresh.state[0] == '\0') {
        return fail(error, FIELDSYNC_PROTOCOL, "the response is not the entry of a record");
    }
    if (fieldsync_json_member(body, "receipt", &receipt) && receipt.text[0] == '{') {
        fresh.receipt_json = (char *)malloc(receipt.bytes + 1);
        if (fresh.receipt_json == NULL) {
            return fail_memory(error);
        }
        memcpy(fresh.receipt_json, receipt.text, receipt.bytes);
        fresh.receipt_json[receipt.bytes] = '\0';
    }
    take_text(response, &fresh.json);
    fieldsync_entry_clear(entry);
    *entry = fresh;
    return succeed(error);
}

/* Reads an entry with one attempt, or with as many as fit into the time. */
static enum fieldsync_error_kind fetch_entry(struct fieldsync_client *client, const char *id, int is_repeated,
                                             int64_t deadline, struct fieldsync_entry *entry,
                                             struct fieldsync_error *error)
{
    struct buffer path = {NULL, 0, 0};
    struct request request = {"GET", NULL, NULL, 200};
    struct response response;
    struct failure failure;
    enum fieldsync_error_kind kind;
    memset(&response, 0, sizeof response);
    if (!append_text(&path, "/v1/records/") || !append_encoded(&path, id)) {
        kind = fail_memory(error);
    } else {
        request.path = path.data;
        kind = is_repeated ? repeat_request(client, &request, deadline, &response, error)
                           : attempt_request(client, &request, deadline, &response, &failure, error);
    }
    if (kind == FIELDSYNC_OK) {
        kind = read_entry(&response, entry, error);
    }
    release(&path);
    release_response(&response);
    return kind;
}

static enum fieldsync_error_kind check_id(const char *id, struct fieldsync_error *error)
{
    if (id == NULL || *id == '\0') {
        return fail(error, FIELDSYNC_INVALID_REQUEST, "the id is empty");
    }
    return FIELDSYNC_OK;
}

enum fieldsync_error_kind fieldsync_get_record(struct fieldsync_client *client, const char *id, int64_t time_limit_ms,
                                               struct fieldsync_entry *entry, struct fieldsync_error *error)
{
    struct fieldsync_error unused;
    error = error == NULL ? &unused : error;
    memset(entry, 0, sizeof *entry);
    if (check_id(id, error) != FIELDSYNC_OK) {
        return error->kind;
    }
    return fetch_entry(client, id, 0, deadline_after(time_limit_ms), entry, error);
}

/* ---- Enqueueing ---- */

static size_t payload_length(const struct fieldsync_record *record)
{
    return record->payload_bytes != 0 || record->payload_json == NULL ? record->payload_bytes
                                                                      : strlen(record->payload_json);
}

/* Checks what would damage the request of other records, and makes ids. */
static enum fieldsync_error_kind prepare_records(struct fieldsync_client *client, struct fieldsync_record *records,
                                                 size_t count, struct fieldsync_error *error)
{
    size_t i;
    for (i = 0; i < count; i++) {
        struct fieldsync_record *record = &records[i];
        const char *fault = NULL;
        if (record->type == NULL) {
            fault = "the type is missing";
        } else if (!is_utf8(record->type) || (record->key != NULL && !is_utf8(record->key))) {
            fault = "the type or the key is not UTF-8";
        } else if (record->payload_json == NULL || !is_json_object(record->payload_json, payload_length(record))) {
            fault = "the payload is not a JSON object";
        } else if (memchr(record->id, '\0', sizeof record->id) == NULL) {
            fault = "the id is not a text";
        } else if (!is_utf8(record->id)) {
            fault = "the id is not UTF-8";
        }
        if (fault != NULL) {
            fail(error, FIELDSYNC_INVALID_REQUEST, "record %zu: %s", i + 1, fault);
            error->position = (int64_t)i + 1;
            memcpy(error->code, "invalid_record", sizeof "invalid_record");
            return error->kind;
        }
    }
    for (i = 0; i < count; i++) {
        if (records[i].id[0] == '\0' && fieldsync_new_id(client, records[i].id) != FIELDSYNC_OK) {
            return fail(error, FIELDSYNC_SYSTEM, "the system gives no random numbers");
        }
    }
    return FIELDSYNC_OK;
}

static int append_record(struct buffer *body, const struct fieldsync_record *record)
{
    char priority[32] = "";
    if (record->has_priority) {
        snprintf(priority, sizeof priority, ",\"priority\":%d", record->priority);
    }
    return append_text(body, "{\"id\":") && append_json_string(body, record->id) && append_text(body, ",\"type\":") &&
           append_json_string(body, record->type) &&
           (record->key == NULL || (append_text(body, ",\"key\":") && append_json_string(body, record->key))) &&
           append_text(body, priority) && append_text(body, ",\"payload\":") &&
           append(body, record->payload_json, payload_length(record)) && append_text(body, "}");
}

/*
 * Writes the first records into the body of a request, at least one. Returns how many; 0 if there is not enough
 * memory.
 */
static size_t fill_request(struct buffer *body, size_t max_bytes, const struct fieldsync_record *records, size_t count)
{
    size_t taken = 0;
    clear(body);
    if (!append(body, "[", 1)) {
        return 0;
    }
    while (taken < count && taken < MAX_REQUEST_RECORDS) {
        size_t before = body->length;
        if ((taken > 0 && !append(body, ",", 1)) || !append_record(body, &records[taken])) {
            return 0;
        }
        if (taken > 0 && body->length + 1 > max_bytes) {
            body->length = before;
            break;
        }
        taken++;
    }
    return append(body, "]", 1) ? taken : 0;
}

/* Adds up what a response says was stored, of so many records. */
static enum fieldsync_error_kind add_stored(const struct response *response, size_t count,
                                            struct fieldsync_enqueued *enqueued, struct fieldsync_error *error)
{
    struct fieldsync_slice body = slice_of(response->body.data, response->body.length), value, id;
    int64_t accepted, duplicates;
    size_t position = 0, ids = 0;
    if (!fieldsync_json_member(body, "accepted", &value) || !fieldsync_json_integer(value, &accepted) ||
        !fieldsync_json_member(body, "duplicates", &value) || !fieldsync_json_integer(value, &duplicates) ||
        !fieldsync_json_member(body, "ids", &value) || value.text[0] != '[' || accepted < 0 || duplicates < 0) {
        return fail(error, FIELDSYNC_PROTOCOL, "the response does not say how many records were stored");
    }
    while (fieldsync_json_element(value, &position, &id)) {
        ids++;
    }
    /* Neither is more than the count, so the sum does not overflow. */
    if ((uint64_t)accepted > count || (uint64_t)duplicates > count || (uint64_t)(accepted + duplicates) != count ||
        ids != count) {
        return fail(error, FIELDSYNC_PROTOCOL, "the response is about other records than those of the request");
    }
    enqueued->accepted += (size_t)accepted;
    enqueued->duplicates += (size_t)duplicates;
    return succeed(error);
}

enum fieldsync_error_kind fieldsync_enqueue(struct fieldsync_client *client, struct fieldsync_record *records,
                                            size_t count, int64_t time_limit_ms, struct fieldsync_enqueued *enqueued,
                                            struct fieldsync_error *error)
{
    struct fieldsync_error unused_error;
    struct fieldsync_enqueued unused_result;
    struct buffer body = {NULL, 0, 0};
    struct request request = {"POST", "/v1/records", NULL, 201};
    struct response response;
    int64_t deadline = deadline_after(time_limit_ms);
    size_t max_bytes = MAX_REQUEST_BYTES;
    enum fieldsync_error_kind kind;
    error = error == NULL ? &unused_error : error;
    enqueued = enqueued == NULL ? &unused_result : enqueued;
    memset(enqueued, 0, sizeof *enqueued);
    memset(&response, 0, sizeof response);
    succeed(error);
    request.body = &body;
    kind = prepare_records(client, records, count, error);
    while (kind == FIELDSYNC_OK && enqueued->stored < count) {
        size_t taken = fill_request(&body, max_bytes, records + enqueued->stored, count - enqueued->stored);
        if (taken == 0) {
            kind = fail_memory(error);
            break;
        }
        kind = repeat_request(client, &request, deadline, &response, error);
        if (kind == FIELDSYNC_OK) {
            kind = add_stored(&response, taken, enqueued, error);
        }
        if (kind == FIELDSYNC_OK) {
            enqueued->stored += taken;
        } else if (taken > 1 && kind == FIELDSYNC_INVALID_REQUEST && strcmp(error->code, "request_too_large") == 0) {
            /* Half of these records, if they are equally long. */
            max_bytes = (body.length + 1) / 2;
            kind = succeed(error);
        } else if (error->position > 0) {
            error->position += (int64_t)enqueued->stored;
        }
    }
    release(&body);
    release_response(&response);
    return kind;
}

/* ---- Event streams ---- */

struct fieldsync_events {
    struct fieldsync_client *client;
    /* -1: none. */
    int descriptor;
    /* When to connect, while there is no connection. */
    int64_t connect_at;
    int64_t min_delay_ms;
    int64_t delay_ms;
    struct buffer head;
    size_t head_sent;
    /* For the head of the response, and for the body of an error. */
    int64_t response_deadline;
    struct response response;
    struct event_parser parser;
    /* Whether the last connection failed because the user may not open the socket. */
    int was_denied;
    /* Whether the caller has the event in the parser. */
    int is_delivered;
    struct fieldsync_error last_failure;
    char *room;
};

enum fieldsync_error_kind fieldsync_open_events(struct fieldsync_client *client, const char *last_event_id,
                                                struct fieldsync_events **events, struct fieldsync_error *error)
{
    struct fieldsync_error unused;
    struct fieldsync_events *stream;
    const char *at;
    error = error == NULL ? &unused : error;
    *events = NULL;
    last_event_id = last_event_id == NULL ? "" : last_event_id;
    for (at = last_event_id; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f || (size_t)(at - last_event_id) >= MAX_EVENT_ID_BYTES) {
            return fail(error, FIELDSYNC_INVALID_REQUEST, "this is not the id of an event");
        }
    }
    stream = (struct fieldsync_events *)calloc(1, sizeof *stream);
    if (stream == NULL) {
        return fail_memory(error);
    }
    stream->client = client;
    stream->descriptor = -1;
    stream->connect_at = now_ms();
    stream->min_delay_ms = stream->delay_ms = MIN_RETRY_MS;
    stream->parser.max_bytes = client->max_response_bytes;
    stream->room = (char *)malloc(READ_BYTES);
    succeed(&stream->last_failure);
    if (stream->room == NULL || !append_text(&stream->parser.last_id, last_event_id) || !reset_parser(&stream->parser)) {
        fieldsync_close_events(stream);
        return fail_memory(error);
    }
    *events = stream;
    return succeed(error);
}

static void disconnect(struct fieldsync_events *events)
{
    if (events->descriptor >= 0) {
        close(events->descriptor);
        events->descriptor = -1;
    }
}

void fieldsync_close_events(struct fieldsync_events *events)
{
    if (events != NULL) {
        disconnect(events);
        release(&events->head);
        release_response(&events->response);
        release_parser(&events->parser);
        free(events->room);
        free(events);
    }
}

int fieldsync_events_fd(const struct fieldsync_events *events)
{
    return events->descriptor;
}

int64_t fieldsync_events_wait_ms(const struct fieldsync_events *events)
{
    int64_t due;
    if (events->descriptor < 0) {
        due = events->connect_at;
    } else if (events->head_sent < events->head.length) {
        due = now_ms() + ACCEPT_RETRY_MS;
    } else if (!has_head(&events->response) || events->response.status != 200) {
        due = events->response_deadline;
    } else {
        return -1;
    }
    return due > now_ms() ? due - now_ms() : 0;
}

/* Plans the next connection after the stream ended, or after a failure that passes. */
static void plan_reconnect(struct fieldsync_events *events, const struct fieldsync_error *failure)
{
    int64_t delay_ms = max_time(failure->retry_after_s * 1000, events->delay_ms);
    disconnect(events);
    events->last_failure = *failure;
    events->connect_at = now_ms() + delay_ms;
    events->delay_ms = min_time(2 * (events->delay_ms < MIN_RETRY_MS / 2 ? MIN_RETRY_MS / 2 : events->delay_ms),
                                MAX_RECONNECT_MS);
}

/* Connects, if it is time. Returns FIELDSYNC_OK also after a failure that passes. */
static enum fieldsync_error_kind connect_events(struct fieldsync_events *events, struct fieldsync_error *error)
{
    struct request request = {"GET", "/v1/events", NULL, 200};
    struct failure failure;
    events->descriptor = open_socket(events->client, &failure, error);
    if (events->descriptor < 0) {
        if (failure.is_denied && events->was_denied) {
            return error->kind;
        }
        events->was_denied = failure.is_denied;
        if (failure.is_denied) {
            events->last_failure = *error;
            events->connect_at = now_ms() + QUICK_RETRY_MS;
        } else if (failure.is_crowded) {
            events->connect_at = now_ms() + ACCEPT_RETRY_MS;
        } else {
            plan_reconnect(events, error);
        }
        return FIELDSYNC_OK;
    }
    events->was_denied = 0;
    events->head_sent = 0;
    events->response_deadline = now_ms() + ATTEMPT_LIMIT_MS;
    reset_response(&events->response, events->client->max_response_bytes);
    if (!reset_parser(&events->parser) || !build_head(&events->head, &request, events->parser.last_id.data)) {
        return fail_memory(error);
    }
    return FIELDSYNC_OK;
}

/* Handles what was received. Returns FIELDSYNC_OK also after a failure that passes. */
static enum fieldsync_error_kind handle_received(struct fieldsync_events *events, enum transfer transfer,
                                                 struct fieldsync_error *error)
{
    struct response *response = &events->response;
    if (transfer == TRANSFER_FAILED && error->kind != FIELDSYNC_CONNECTION_FAILED) {
        return error->kind;
    }
    if (has_head(response) && response->status == 200) {
        if (!response->is_event_stream) {
            return fail(error, FIELDSYNC_PROTOCOL, "the response is not a stream of events");
        }
        if (!push_event_bytes(&events->parser, response->body.data == NULL ? "" : response->body.data,
                              response->body.length)) {
            return fail_memory(error);
        }
        clear(&response->body);
    } else if (response->phase == RESPONSE_COMPLETE) {
        if (fail_response(response, error) != FIELDSYNC_UNAVAILABLE) {
            return error->kind;
        }
        plan_reconnect(events, error);
        return FIELDSYNC_OK;
    }
    if (transfer == CONNECTION_ENDED || transfer == TRANSFER_FAILED || response->phase == RESPONSE_COMPLETE) {
        fail(error, FIELDSYNC_CONNECTION_FAILED, "the stream of events ended");
        plan_reconnect(events, error);
    }
    return FIELDSYNC_OK;
}

/* Sends and receives what can be, within the time. */
static enum fieldsync_error_kind transfer_events(struct fieldsync_events *events, int64_t deadline,
                                                 struct fieldsync_error *error)
{
    int is_sending = events->head_sent < events->head.length;
    int is_streaming = has_head(&events->response) && events->response.status == 200;
    int64_t limit = is_streaming ? deadline : min_time(deadline, events->response_deadline);
    enum fieldsync_error_kind kind;
    enum transfer transfer;
    kind = wait_ready(events->client, events->descriptor, (short)(is_sending ? POLLIN | POLLOUT : POLLIN), limit);
    if (kind == FIELDSYNC_TIME_LIMIT && limit < deadline) {
        fail_wait(error, kind);
        plan_reconnect(events, error);
        return FIELDSYNC_OK;
    }
    if (kind != FIELDSYNC_OK) {
        return fail_wait(error, kind);
    }
    if (is_sending) {
        send_some(events->descriptor, events->head.data, events->head.length, &events->head_sent);
    }
    transfer = receive_some(events->client, events->descriptor, &events->response, events->room, error);
    return transfer == WOULD_BLOCK ? FIELDSYNC_OK : handle_received(events, transfer, error);
}

/* Hands an event to the caller. */
static enum fieldsync_error_kind deliver_event(struct fieldsync_events *events, struct fieldsync_event *event,
                                               struct fieldsync_error *error)
{
    struct event_parser *parser = &events->parser;
    if (!is_json(parser->data.data == NULL ? "" : parser->data.data, parser->data.length)) {
        return fail(error, FIELDSYNC_PROTOCOL, "the data of an event is not JSON");
    }
    if (parser->retry_ms >= 0) {
        events->min_delay_ms = max_time(min_time(parser->retry_ms, MAX_RECONNECT_MS), QUICK_RETRY_MS);
    }
    events->delay_ms = events->min_delay_ms;
    events->is_delivered = 1;
    event->id = parser->last_id.data;
    event->event = parser->name.length > 0 ? parser->name.data : "message";
    event->data_json = parser->data.data;
    return succeed(error);
}

enum fieldsync_error_kind fieldsync_next_event(struct fieldsync_events *events, int64_t time_limit_ms,
                                               struct fieldsync_event *event, struct fieldsync_error *error)
{
    struct fieldsync_error unused;
    int64_t deadline = deadline_after(time_limit_ms);
    enum fieldsync_error_kind kind = FIELDSYNC_OK;
    error = error == NULL ? &unused : error;
    memset(event, 0, sizeof *event);
    if (events->is_delivered) {
        events->is_delivered = 0;
        end_event(&events->parser);
    }
    for (;;) {
        int parsed = parse_event(&events->parser, error);
        if (parsed > 0) {
            kind = deliver_event(events, event, error);
            break;
        }
        if (parsed < 0) {
            kind = error->kind;
            break;
        }
        if (now_ms() > deadline) {
            kind = FIELDSYNC_TIME_LIMIT;
        } else if (events->descriptor >= 0) {
            kind = transfer_events(events, deadline, error);
        } else if (now_ms() >= events->connect_at) {
            kind = connect_events(events, error);
        } else {
            kind = wait_ready(events->client, -1, 0, min_time(deadline, events->connect_at));
            if (kind == FIELDSYNC_CANCELLED) {
                fail_wait(error, kind);
            } else if (now_ms() >= events->connect_at) {
                kind = FIELDSYNC_OK;
            }
        }
        if (kind != FIELDSYNC_OK) {
            break;
        }
    }
    if (kind == FIELDSYNC_TIME_LIMIT) {
        fail(error, kind, "there was no event in time");
        if (events->descriptor < 0 && events->last_failure.kind != FIELDSYNC_OK) {
            fail_time_limit(error, &events->last_failure);
        }
    } else if (kind != FIELDSYNC_OK && kind != FIELDSYNC_CANCELLED) {
        disconnect(events);
        events->connect_at = INT64_MAX;
    }
    return kind;
}

/* ---- Waiting for a record ---- */

/* Whether a list of words, separated by commas, has this one. */
static int has_word(const char *words, const char *word)
{
    size_t bytes = strlen(word);
    while (*words != '\0') {
        size_t length;
        words += strspn(words, ", ");
        length = strcspn(words, ", ");
        if (length == bytes && memcmp(words, word, bytes) == 0) {
            return 1;
        }
        words += length;
    }
    return 0;
}

/* Whether an event may have changed the state of the record. */
static int is_concerned(const struct fieldsync_event *event, const struct fieldsync_entry *entry, const char *states)
{
    struct fieldsync_slice data = slice_of(event->data_json, strlen(event->data_json));
    char id[FIELDSYNC_ID_BYTES];
    if (strcmp(event->event, "status") == 0 || strcmp(event->event, "gap") == 0) {
        return 1;
    }
    if (strcmp(event->event, "batch") == 0) {
        return has_word(states, "FAILED") || has_word(states, "SYNCING") || has_word(states, "PENDING");
    }
    if (strcmp(event->event, "record") != 0) {
        return 0;
    }
    copy_member(data, "id", id, sizeof id);
    return entry->json == NULL || strcmp(id, entry->id) == 0;
}

enum fieldsync_error_kind fieldsync_wait(struct fieldsync_client *client, const char *id, const char *states,
                                         int64_t time_limit_ms, struct fieldsync_entry *entry,
                                         struct fieldsync_error *error)
{
    struct fieldsync_error unused;
    struct fieldsync_events *events = NULL;
    struct fieldsync_event event;
    int64_t deadline = deadline_after(time_limit_ms);
    enum fieldsync_error_kind kind;
    error = error == NULL ? &unused : error;
    states = states == NULL ? "SYNCED,QUARANTINED,DISCARDED" : states;
    memset(entry, 0, sizeof *entry);
    kind = check_id(id, error);
    if (kind == FIELDSYNC_OK) {
        kind = fieldsync_open_events(client, NULL, &events, error);
    }
    while (kind == FIELDSYNC_OK) {
        int64_t left = deadline - now_ms();
        kind = fieldsync_next_event(events, left > 0 ? left : 0, &event, error);
        /* Each connection begins with "status". The record is read after that, so no change falls in between. */
        if (kind == FIELDSYNC_OK && is_concerned(&event, entry, states)) {
            kind = fetch_entry(client, id, 1, deadline, entry, error);
            if (kind == FIELDSYNC_OK && has_word(states, entry->state)) {
                break;
            }
        }
    }
    fieldsync_close_events(events);
    return kind;
}
