/*
 * Table tests of the parts of fieldsync.c that do no input or output: JSON, ids, HTTP responses, events, the retry
 * schedule. It includes the source, because these parts are not in the header.
 *
 *     cc -std=c99 -Wall -Wextra -g -fsanitize=address,undefined test.c -o test && ./test
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "fieldsync.c"

static int checks, failures;

#define CHECK(condition, name) check(condition, #condition, name, __LINE__)

static void check(int is_true, const char *condition, const char *name, int line)
{
    checks++;
    if (!is_true) {
        failures++;
        printf("test.c:%d: %s: %s\n", line, name, condition);
    }
}

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* ---- JSON ---- */

static void json_is_accepted_or_refused(void)
{
    static const char *const valid[] = {
        "null", "true", "false", "0", "-0", "-1.5e+10", "1E-2", "10", "\"\"", "\"a\\\"b\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
        " [ ] ", "[1,2,[3]]", "{}", "{\"a\":{\"b\":[1,{}]},\"c\":null}", "\t{ \"a\" : 1 , \"b\" : 2 }\r\n", "\"\xc3\xbc\"",
        "\"\xf0\x9f\xa6\x80\"", "\"\x7f\"", "\"\\ud800\""};
    static const char *const invalid[] = {
        "", " ", "nul", "truex", "01", "-", "+1", "1.", ".5", "1e", "0x1", "\"", "\"a", "\"\\x\"", "\"\\u12g4\"", "\"\\u123",
        "\"\n\"", "\"\\", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,}", "{a:1}",
        "{1:2}", "{\"a\" 1}", "[}", "{]", "]", "{} {}", "1,", "\"\xff\"", "\"\xc3\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"", "\"\xf0\x80\x80\x80\"", "\"\xe0\x80\x80\"", "\xef\xbb\xbf{}", "NaN", "'a'"};
    size_t i;
    for (i = 0; i < COUNT(valid); i++) {
        CHECK(is_json(valid[i], strlen(valid[i])), valid[i]);
    }
    for (i = 0; i < COUNT(invalid); i++) {
        CHECK(!is_json(invalid[i], strlen(invalid[i])), invalid[i]);
    }
    CHECK(!is_json("\"a\0b\"", 5), "a zero byte");
    CHECK(is_json_object(" {} ", 4) && !is_json_object("[]", 2) && !is_json_object("{}x", 3), "objects");
}

static void json_of_any_depth_is_bounded(void)
{
    size_t depth, bytes = 100000;
    char *text = (char *)malloc(bytes);
    for (depth = MAX_JSON_DEPTH - 1; depth <= MAX_JSON_DEPTH + 2; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        CHECK(is_json(text, 2 * depth) == (depth <= MAX_JSON_DEPTH), "arrays");
    }
    memset(text, '[', bytes);
    CHECK(!is_json(text, bytes), "an array without an end");
    memset(text, '{', bytes);
    CHECK(!is_json(text, bytes), "objects without names");
    free(text);
}

static void every_prefix_of_json_is_read_within_its_bounds(void)
{
    static const char text[] = "{\"a\\u00fc\":[1.5e3,true,null,\"x\\ud83e\\udd80y\"],\"b\":{\"c\":\"\xc3\xbc\",\"d\":[]}}";
    size_t bytes;
    for (bytes = 0; bytes < sizeof text; bytes++) {
        /* Exactly as large as the text, so that sanitizers notice a read beyond it. */
        char *copy = (char *)malloc(bytes + (bytes == 0));
        struct fieldsync_slice value;
        memcpy(copy, text, bytes);
        CHECK(is_json(copy, bytes) == (bytes == sizeof text - 1), "a prefix");
        CHECK(fieldsync_json_member(slice_of(copy, bytes), "z", &value) == 0, "a member of a prefix");
        free(copy);
    }
}

static void strings_are_decoded(void)
{
    static const struct {
        const char *json;
        const char *text;
    } cases[] = {{"\"\"", ""},
                 {"\"abc\"", "abc"},
                 {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
                 {"\"\\u0041\\u00fc\\u20ac\\uD83E\\udd80\"", "A\xc3\xbc\xe2\x82\xac\xf0\x9f\xa6\x80"},
                 {"\"\\u0000\"", NULL},
                 {"\"\\ud83e\"", NULL},
                 {"\"\\ud83ex12345\"", NULL},
                 {"\"\\ud83e\\u0041\"", NULL},
                 {"\"\\udd80\"", NULL},
                 {"\"a\" ", NULL},
                 {"\"", NULL},
                 {"1", NULL},
                 {"", NULL}};
    char room[32];
    size_t i;
    for (i = 0; i < COUNT(cases); i++) {
        int64_t length = fieldsync_json_string(slice_of(cases[i].json, strlen(cases[i].json)), room, sizeof room);
        if (cases[i].text == NULL) {
            CHECK(length == -1, cases[i].json);
        } else {
            CHECK(length == (int64_t)strlen(cases[i].text) && strcmp(room, cases[i].text) == 0, cases[i].json);
        }
    }
    CHECK(fieldsync_json_string(slice_of("\"abc\"", 5), room, 4) == 3, "room that is just large enough");
    CHECK(fieldsync_json_string(slice_of("\"abc\"", 5), room, 3) == -1, "room that is too small");
    CHECK(fieldsync_json_string(slice_of("\"\"", 2), room, 0) == -1, "no room");
}

static void members_and_elements_are_found(void)
{
    static const char text[] = " { \"a\" : [1, {\"x\": 2} ,\"]\"] , \"\\u0062\":{\"a\":5},\"b\":7 } ";
    struct fieldsync_slice object = slice_of(text, sizeof text - 1), value, element;
    size_t position = 0;
    int64_t number;
    CHECK(fieldsync_json_member(object, "b", &value) && value.bytes == 7 && memcmp(value.text, "{\"a\":5}", 7) == 0,
          "the first of two, with an escape in its name");
    CHECK(fieldsync_json_member(value, "a", &value) && fieldsync_json_integer(value, &number) && number == 5, "nested");
    CHECK(!fieldsync_json_member(object, "c", &value) && !fieldsync_json_member(slice_of("[]", 2), "a", &value) &&
              !fieldsync_json_member(slice_of("{}", 2), "a", &value) && !fieldsync_json_member(slice_of("", 0), "a", &value),
          "missing");
    CHECK(fieldsync_json_member(object, "a", &value), "an array");
    CHECK(fieldsync_json_element(value, &position, &element) && element.bytes == 1, "the first element");
    CHECK(fieldsync_json_element(value, &position, &element) && element.bytes == 8, "the second element");
    CHECK(fieldsync_json_element(value, &position, &element) && element.bytes == 3, "the third element");
    CHECK(!fieldsync_json_element(value, &position, &element), "the end");
    position = 0;
    CHECK(!fieldsync_json_element(slice_of("[]", 2), &position, &element) &&
              !fieldsync_json_element(slice_of("{}", 2), &position, &element) &&
              !fieldsync_json_element(slice_of("[", 1), &position, &element),
          "nothing");
}

static void nothing_has_no_members(void)
{
    struct fieldsync_slice none = {NULL, 0}, value;
    size_t position = 0;
    CHECK(!fieldsync_json_member(none, "a", &value), "a member of nothing");
    CHECK(!fieldsync_json_element(none, &position, &value), "an element of nothing");
    CHECK(!fieldsync_json_integer(none, &(int64_t){0}), "nothing is no number");
}

static void whole_numbers_are_read(void)
{
    static const struct {
        const char *text;
        int is_valid;
        int64_t value;
    } cases[] = {{"0", 1, 0},
                 {"-1", 1, -1},
                 {"9223372036854775807", 1, INT64_MAX},
                 {"9223372036854775808", 0, 0},
                 {"-9223372036854775808", 1, INT64_MIN},
                 {"-9223372036854775809", 0, 0},
                 {"99999999999999999999", 0, 0},
                 {"1.0", 0, 0},
                 {"1e3", 0, 0},
                 {"-", 0, 0},
                 {"", 0, 0},
                 {"\"1\"", 0, 0}};
    size_t i;
    for (i = 0; i < COUNT(cases); i++) {
        int64_t value = 0;
        int is_valid = fieldsync_json_integer(slice_of(cases[i].text, strlen(cases[i].text)), &value);
        CHECK(is_valid == cases[i].is_valid && (!is_valid || value == cases[i].value), cases[i].text);
    }
}

static void strings_are_escaped_and_decoded_again(void)
{
    struct buffer json = {NULL, 0, 0};
    char text[256], back[256];
    int i;
    for (i = 1; i < 0x80; i++) {
        text[i - 1] = (char)i;
    }
    strcpy(text + 127, "\xc3\xbc\xf0\x9f\xa6\x80");
    CHECK(append_json_string(&json, text) && is_json(json.data, json.length), "all of ASCII");
    CHECK(fieldsync_json_string(slice_of(json.data, json.length), back, sizeof back) >= 0 && strcmp(text, back) == 0, "again");
    clear(&json);
    CHECK(append_json_string(&json, "a\"\\\n") && strcmp(json.data, "\"a\\\"\\\\\\u000a\"") == 0, "escapes");
    clear(&json);
    CHECK(append_encoded(&json, "a-Z_0.~/ ?%\xc3\xbc") && strcmp(json.data, "a-Z_0.~%2F%20%3F%25%C3%BC") == 0, "paths");
    release(&json);
}

/* ---- Ids ---- */

static void ids_have_the_form_of_version_7(void)
{
    static const unsigned char ones[10] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    /* The example of RFC 9562. */
    struct id_state state = {0x017f22e279b0ULL, 0xcc3, 0x18c4dc0c0c07398fULL};
    char id[FIELDSYNC_ID_BYTES];
    format_id(&state, id);
    CHECK(strcmp(id, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f") == 0, id);
    set_random_bits(&state, ones);
    format_id(&state, id);
    CHECK(strcmp(id, "017f22e2-79b0-77ff-bfff-ffffffffffff") == 0, id);
    state.time_ms = state.high = state.low = 0;
    format_id(&state, id);
    CHECK(strcmp(id, "00000000-0000-7000-8000-000000000000") == 0, id);
}

static void ids_ascend(void)
{
    struct id_state state = {1000, 0xfff, LOW_BITS_MASK - 1};
    char before[FIELDSYNC_ID_BYTES] = "", id[FIELDSYNC_ID_BYTES];
    struct fieldsync_client *client = fieldsync_client_new("/nonexistent");
    int i;
    CHECK(!advance_id(&state, 1000) && state.low == LOW_BITS_MASK, "the same millisecond");
    CHECK(advance_id(&state, 999) && state.time_ms == 1001, "no bits left, and a clock that was set back");
    state.low = LOW_BITS_MASK;
    state.high = 5;
    CHECK(!advance_id(&state, 1001) && state.high == 6 && state.low == 0, "a carry");
    CHECK(advance_id(&state, 1002) && state.time_ms == 1002, "a later millisecond");
    for (i = 0; i < 20000; i++) {
        CHECK(fieldsync_new_id(client, id) == FIELDSYNC_OK && strcmp(before, id) < 0, id);
        memcpy(before, id, sizeof id);
    }
    fieldsync_client_free(client);
}

/* ---- HTTP ---- */

struct response_case {
    const char *text;
    /* 0: not HTTP; -1: not complete. */
    int status;
    const char *body;
};

static const struct response_case RESPONSES[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, "{}"},
    {"HTTP/1.1 200 OK\r\ncOnTeNt-LeNgTh:2\r\nX-Empty:\r\n\r\n{}", 200, "{}"},
    {"HTTP/1.1 200\r\ncontent-length: \t2 \r\n\r\n{}and more", 200, "{}"},
    {"HTTP/1.0 503 Later\r\nRetry-After:  7 \r\n\r\nbody", 503, "body"},
    {"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}", 200, "{}"},
    {"HTTP/1.1 204 Empty\r\n\r\n", 204, ""},
    {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200, "{}"},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n1;a=\"b\"\r\n{\r\n01 ; x\r\n}\r\n000\r\nx: y\r\n\r\n",
     200, "{}"},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\ncontent-length: 9\r\n\r\nHTTP/1.1 201 OK\r\ncontent-length: 1\r\n\r\n1",
     201, "1"},
    {"", -1, NULL},
    {"HTTP/1.1 200 OK\r\n", -1, NULL},
    {"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}", -1, NULL},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", -1, NULL},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", -1, NULL},
    {"SSH-2.0-OpenSSH_9.2\r\n", 0, NULL},
    {"HTTP/2 200 OK\r\n", 0, NULL},
    {"HTTP/1.1 OK\r\n", 0, NULL},
    {"HTTP/1.1 99 Low\r\n", 0, NULL},
    {"HTTP/1.1 600 High\r\n", 0, NULL},
    {"HTTP/1.1 20x No\r\n", 0, NULL},
    {"HTTP/1.1 2000 No\r\n", 0, NULL},
    {"\r\nHTTP/1.1 200 OK\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\nno colon\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\n: no name\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\na b: c\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\na: b\r\n c: d\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ncontent-length: 2 2\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ncontent-length: \r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551618\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-2\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x2\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n", 0, NULL},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 0, NULL},
};

/* Feeds the bytes in pieces, each in memory of its own size. */
static enum fieldsync_error_kind feed_pieces(struct response *response, const char *text, size_t bytes, size_t piece,
                                             struct fieldsync_error *error)
{
    size_t at = 0;
    enum fieldsync_error_kind kind = FIELDSYNC_OK;
    while (kind == FIELDSYNC_OK && at < bytes) {
        size_t count = bytes - at < piece ? bytes - at : piece;
        char *copy = (char *)malloc(count);
        memcpy(copy, text + at, count);
        kind = feed_response(response, copy, count, error);
        free(copy);
        at += count;
    }
    return kind;
}

static void responses_are_parsed_in_pieces_of_any_size(void)
{
    struct response response;
    struct fieldsync_error error;
    size_t i, piece;
    memset(&response, 0, sizeof response);
    for (i = 0; i < COUNT(RESPONSES); i++) {
        const struct response_case *test = &RESPONSES[i];
        size_t bytes = strlen(test->text);
        for (piece = 1; piece <= bytes + 1; piece++) {
            enum fieldsync_error_kind kind;
            reset_response(&response, 100);
            kind = feed_pieces(&response, test->text, bytes, piece, &error);
            CHECK(kind == (test->status == 0 ? FIELDSYNC_PROTOCOL : FIELDSYNC_OK), test->text);
            if (test->status != 0) {
                CHECK(end_response(&response) == (test->status > 0), test->text);
            }
            if (test->status > 0) {
                const char *body = response.body.data == NULL ? "" : response.body.data;
                CHECK(response.status == test->status && strcmp(body, test->body) == 0, test->text);
                CHECK(response.retry_after_s == (test->status == 503 ? 7 : -1), test->text);
            }
        }
    }
    release_response(&response);
}

static void large_heads_and_bodies_are_refused(void)
{
    static const struct {
        const char *begin;
        const char *again;
        size_t repetitions;
        int is_refused;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\n", "x: y\r\n", 20000, 1},
        {"HTTP/1.1 200 OK\r\n", "xxxxxxxx", 20000, 1},
        {"HTTP/1.1 200 OK\r\nx: ", "yyyyyyyyyy", 6000, 0},
        {"", "HTTP/1.1 100 Continue\r\n\r\n", 4000, 1},
        {"HTTP/1.1 200 OK\r\n\r\n", "12345678", 13, 1},
        {"HTTP/1.1 200 OK\r\n\r\n", "12345678", 12, 0},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "8\r\n12345678\r\n", 13, 1},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "8;x=y\r\n12345678\r\n", 12, 0},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;", "xxxxxxxx", 2000, 1},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", "x: y\r\n", 20000, 1},
    };
    struct response response;
    struct fieldsync_error error;
    size_t i, repetition;
    memset(&response, 0, sizeof response);
    for (i = 0; i < COUNT(cases); i++) {
        enum fieldsync_error_kind kind;
        reset_response(&response, 100);
        kind = feed_response(&response, cases[i].begin, strlen(cases[i].begin), &error);
        for (repetition = 0; kind == FIELDSYNC_OK && repetition < cases[i].repetitions; repetition++) {
            kind = feed_response(&response, cases[i].again, strlen(cases[i].again), &error);
        }
        CHECK((kind == FIELDSYNC_PROTOCOL) == cases[i].is_refused, cases[i].begin);
        CHECK(response.line.length <= MAX_HEAD_BYTES && response.body.length <= 100, cases[i].again);
    }
    release_response(&response);
}

static void errors_have_the_kind_of_what_the_app_must_do(void)
{
    static const struct {
        int status;
        const char *body;
        enum fieldsync_error_kind kind;
        const char *code;
        int64_t position;
    } cases[] = {
        {400, "{\"error\":{\"code\":\"invalid_record\",\"message\":\"no\",\"position\":7}}", FIELDSYNC_INVALID_REQUEST, "invalid_record", 7},
        {403, "<html>", FIELDSYNC_NOT_PERMITTED, "", 0},
        {404, "{\"error\":{\"code\":\"not_found\"}}", FIELDSYNC_INVALID_REQUEST, "not_found", 0},
        {404, "{\"error\":{\"code\":\"no_such_record\"}}", FIELDSYNC_NO_SUCH_RECORD, "no_such_record", 0},
        {408, "", FIELDSYNC_UNAVAILABLE, "", 0},
        {409, "{\"error\":{\"code\":\"id_conflict\",\"position\":null}}", FIELDSYNC_CONFLICT, "id_conflict", 0},
        {410, "{\"error\":{\"code\":\"cursor_expired\"}}", FIELDSYNC_CURSOR_EXPIRED, "cursor_expired", 0},
        {413, "{\"error\":[]}", FIELDSYNC_INVALID_REQUEST, "", 0},
        {500, "{\"error\":{\"code\":\"store_failed\"}}", FIELDSYNC_UNAVAILABLE, "store_failed", 0},
        {502, "[]", FIELDSYNC_API, "", 0},
        {503, "{\"error\":{\"code\":\"busy\"}}", FIELDSYNC_UNAVAILABLE, "busy", 0},
        {507, "{\"error\":{\"code\":\"disk_full\"}}", FIELDSYNC_QUEUE_FULL, "disk_full", 0},
        {302, "", FIELDSYNC_PROTOCOL, "", 0},
    };
    struct response response;
    struct fieldsync_error error;
    size_t i;
    memset(&response, 0, sizeof response);
    for (i = 0; i < COUNT(cases); i++) {
        reset_response(&response, 1000);
        response.status = cases[i].status;
        CHECK(append_text(&response.body, cases[i].body), "memory");
        CHECK(fail_response(&response, &error) == cases[i].kind && error.kind == cases[i].kind, cases[i].body);
        CHECK(strcmp(error.code, cases[i].code) == 0 && error.position == cases[i].position, cases[i].body);
    }
    reset_response(&response, 10000);
    response.status = 400;
    CHECK(append_text(&response.body, "{\"error\":{\"message\":\""), "memory");
    for (i = 0; i < 1000; i++) {
        CHECK(append_text(&response.body, "x"), "memory");
    }
    CHECK(append_text(&response.body, "\"}}"), "memory");
    fail_response(&response, &error);
    CHECK(strlen(error.message) == sizeof error.message - 1, "a long message is cut");
    release_response(&response);
}

/* ---- Events ---- */

/* Writes all events of the stream as id|name|data; and so on. */
static const char *parse_stream(const char *stream, size_t bytes, size_t piece, struct buffer *out)
{
    struct event_parser parser;
    struct fieldsync_error error;
    size_t at = 0;
    int parsed = 0;
    memset(&parser, 0, sizeof parser);
    parser.max_bytes = 100;
    clear(out);
    CHECK(append_text(&parser.last_id, "") && reset_parser(&parser) && append_text(out, ""), "memory");
    while (parsed >= 0 && at < bytes) {
        size_t count = bytes - at < piece ? bytes - at : piece;
        char *copy = (char *)malloc(count);
        memcpy(copy, stream + at, count);
        CHECK(push_event_bytes(&parser, copy, count), "memory");
        free(copy);
        at += count;
        while ((parsed = parse_event(&parser, &error)) > 0) {
            CHECK(append_text(out, parser.last_id.data) && append_text(out, "|") &&
                      append(out, parser.name.data, parser.name.length) && append_text(out, "|") &&
                      append(out, parser.data.data, parser.data.length) && append_text(out, ";"),
                  "memory");
            end_event(&parser);
        }
    }
    if (parsed < 0) {
        CHECK(append_text(out, "refused"), "memory");
    }
    if (strcmp(parser.id.data, parser.last_id.data) != 0) {
        CHECK(append_text(out, "unfinished ") && append_text(out, parser.id.data), "memory");
        CHECK(reset_parser(&parser) && strcmp(parser.id.data, parser.last_id.data) == 0, "a new connection");
    }
    if (parser.retry_ms >= 0) {
        char text[32];
        snprintf(text, sizeof text, "retry %lld", (long long)parser.retry_ms);
        CHECK(append_text(out, text), "memory");
    }
    release_parser(&parser);
    return out->data;
}

static void events_are_parsed_in_pieces_of_any_size(void)
{
#define STREAM(text) text, sizeof text - 1
    static const struct {
        const char *stream;
        size_t bytes;
        const char *events;
    } cases[] = {
        {STREAM("id: a-1\nevent: record\ndata: {}\n\n"), "a-1|record|{};"},
        {STREAM("id: 1\r\ndata: x\r\n\r\ndata: y\r\r"), "1||x;1||y;"},
        {STREAM("data: a\ndata:b\ndata:  c\n\n"), "||a\nb\n c;"},
        {STREAM(": hi\n:\nfoo: bar\ndata: 1\n\n\n\n"), "||1;"},
        {STREAM("id: 5\nevent: x\n\ndata: 1\n\n"), "5||1;"},
        {STREAM("event: y\nevent: z\ndata\n\n"), "|z|;"},
        {STREAM("id: 1\ndata: 1\n\nid: a\0b\ndata: 2\n\nid\ndata: 3\n\n"), "1||1;1||2;||3;"},
        {STREAM("\xef\xbb\xbf" "data: 1\n\n\xef\xbb\xbf" "data: 2\n\n"), "||1;"},
        {STREAM("retry: 250\nretry: 1x\nretry: -5\nretry\ndata: 1\n\n"), "||1;retry 250"},
        {STREAM("data: 1\n"), ""},
        {STREAM("id: 1\ndata: 1\n\nid: 2\n\nid: 3\ndata: 3\n"), "1||1;unfinished 3"},
        {STREAM("data: 1\n\r"), "||1;"},
        {STREAM("data: 1\r\n\r\ndata: 2\r\n\n"), "||1;||2;"},
        {STREAM("data: 12345678901234567890123456789012345678901234567890\ndata: 1234567890123456789012345678901234567890123456789012\n\n"), "refused"},
    };
    struct buffer out = {NULL, 0, 0};
    size_t i, piece;
    for (i = 0; i < COUNT(cases); i++) {
        for (piece = 1; piece <= cases[i].bytes; piece++) {
            CHECK(strcmp(parse_stream(cases[i].stream, cases[i].bytes, piece, &out), cases[i].events) == 0, cases[i].stream);
        }
    }
    release(&out);
}

/* ---- The retry schedule ---- */

static void attempts_are_repeated_on_schedule(void)
{
    /* r: refused, l: lost, t: without a response in time, d: denied, b: 503 with Retry-After 2, z: 503 with Retry-After 0,
       s: store_failed, m: another 500, f: 507 with Retry-After 60, n: 400. */
    static const struct {
        const char *attempts;
        int64_t remaining_ms;
        int64_t delays_ms[10];
    } cases[] = {
        {"rrrrrrrrrr", 1000000000, {100, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000}},
        {"llrl", 1000000000, {1000, 2000, 100, 4000}},
        {"tt", 1000000000, {1000, 2000}},
        {"rdd", 1000000000, {100, 100, -1}},
        {"d", 100, {-1}},
        {"blsb", 1000000000, {2000, 1000, 5000, 2000}},
        {"ll", 900, {450, -1}},
        {"rllll", 3500, {100, 1000, 2000, 2500, -1}},
        {"zz", 1000000000, {100, 100}},
        {"z", 100, {-1}},
        {"b", 2000, {-1}},
        {"f", 61000, {60000}},
        {"f", 60000, {-1}},
        {"l", 0, {-1}},
        {"nm", 1000000000, {-1, -1}},
    };
    size_t i, at;
    for (i = 0; i < COUNT(cases); i++) {
        struct retry_schedule schedule;
        start_schedule(&schedule);
        for (at = 0; cases[i].attempts[at] != '\0'; at++) {
            char attempt = cases[i].attempts[at];
            struct failure failure = {0, 0, 0};
            struct fieldsync_error error;
            fail(&error, FIELDSYNC_CONNECTION_FAILED, "an attempt");
            failure.is_refused = attempt == 'r' || attempt == 'd';
            failure.is_denied = attempt == 'd';
            if (attempt == 't') {
                error.kind = FIELDSYNC_TIME_LIMIT;
            } else if (attempt == 'n') {
                error.kind = FIELDSYNC_INVALID_REQUEST;
            } else if (strchr("bzsm", attempt) != NULL) {
                error.kind = FIELDSYNC_UNAVAILABLE;
                error.status = attempt == 'b' || attempt == 'z' ? 503 : 500;
                error.retry_after_s = attempt == 'b' ? 2 : attempt == 'z' ? 0 : -1;
                strcpy(error.code, attempt == 's' ? "store_failed" : "other");
            } else if (attempt == 'f') {
                error.kind = FIELDSYNC_QUEUE_FULL;
                error.retry_after_s = 60;
            }
            CHECK(next_delay_ms(&schedule, &error, &failure, cases[i].remaining_ms) == cases[i].delays_ms[at],
                  cases[i].attempts);
        }
    }
}

/* ---- Requests ---- */

static void records_that_would_damage_a_request_are_refused(void)
{
    static const char *const payloads[] = {"", "[]", "{", "{}},{", "{} ", "{\"a\":1,}", "null", "{}x"};
    struct fieldsync_client *client = fieldsync_client_new("/nonexistent/fieldsync.sock");
    struct fieldsync_record records[2];
    struct fieldsync_enqueued enqueued;
    struct fieldsync_error error;
    size_t i;
    for (i = 0; i < COUNT(payloads); i++) {
        int is_valid = strcmp(payloads[i], "{} ") == 0;
        memset(records, 0, sizeof records);
        records[0].type = records[1].type = "Visits";
        records[0].payload_json = "{}";
        records[1].payload_json = payloads[i];
        CHECK(fieldsync_enqueue(client, records, 2, 0, &enqueued, &error) ==
                  (is_valid ? FIELDSYNC_TIME_LIMIT : FIELDSYNC_INVALID_REQUEST),
              payloads[i]);
        CHECK(error.position == (is_valid ? 0 : 2) && enqueued.stored == 0, payloads[i]);
    }
    CHECK(strlen(records[0].id) == 0, "no id before the check");
    for (i = 0; i < 3; i++) {
        memset(records, 0, sizeof records);
        records[0].type = i == 0 ? "Visits\xff" : "Visits";
        records[0].key = i == 1 ? "\xed\xa0\x80" : "\xc3\xbc";
        records[0].payload_json = "{}";
        strcpy(records[0].id, i == 2 ? "\xc3" : "");
        CHECK(fieldsync_enqueue(client, records, 1, 0, &enqueued, &error) == FIELDSYNC_INVALID_REQUEST, "not UTF-8");
        CHECK(error.position == 1 && strcmp(error.code, "invalid_record") == 0, "not UTF-8");
    }
    CHECK(fieldsync_enqueue(client, NULL, 0, 0, &enqueued, NULL) == FIELDSYNC_OK, "no records");
    fieldsync_client_free(client);
}

static void a_response_is_about_the_records_that_were_sent(void)
{
    static const struct {
        const char *body;
        int is_accepted;
    } cases[] = {
        {"{\"accepted\":1,\"duplicates\":1,\"ids\":[\"a\",\"b\"]}", 1},
        {"{\"accepted\":2,\"duplicates\":0,\"ids\":[\"a\"]}", 0},
        {"{\"accepted\":2,\"duplicates\":1,\"ids\":[\"a\",\"b\"]}", 0},
        {"{\"accepted\":9223372036854775807,\"duplicates\":9223372036854775807,\"ids\":[\"a\",\"b\"]}", 0},
        {"{\"accepted\":3,\"duplicates\":-1,\"ids\":[\"a\",\"b\"]}", 0},
    };
    size_t i;
    for (i = 0; i < COUNT(cases); i++) {
        struct response response;
        struct fieldsync_enqueued enqueued = {0, 0, 0};
        struct fieldsync_error error;
        memset(&response, 0, sizeof response);
        append_text(&response.body, cases[i].body);
        add_stored(&response, 2, &enqueued, &error);
        CHECK((error.kind == FIELDSYNC_OK) == cases[i].is_accepted, cases[i].body);
        release_response(&response);
    }
}

static void messages_end_between_characters(void)
{
    static const struct {
        const char *cut;
        size_t bytes;
    } cases[] = {{"", 0},           {"ab", 2},          {"a\xc3", 1},         {"a\xc3\xbc", 3},         {"\xe2\x82", 0},
                 {"\xe2\x82\xac", 3}, {"a\xf0\x9f\xa6", 1}, {"a\xf0\x9f", 1}, {"\xf0\x9f\xa6\x80", 4}, {"\x80\x80", 2}};
    struct fieldsync_error error, cause;
    size_t i, shift;
    for (i = 0; i < COUNT(cases); i++) {
        char text[8];
        snprintf(text, sizeof text, "%s", cases[i].cut);
        trim_utf8(text);
        CHECK(strlen(text) == cases[i].bytes, cases[i].cut);
    }
    for (shift = 0; shift < 4; shift++) {
        struct buffer json = {NULL, 0, 0};
        append_text(&json, "{\"message\":\"xxx");
        json.length -= shift;
        for (i = 0; i < sizeof error.message; i++) {
            append_text(&json, "\xf0\x9f\xa6\x80");
        }
        append_text(&json, "\"}");
        fail(&cause, FIELDSYNC_API, "%s", "");
        copy_message(slice_of(json.data, json.length), &cause);
        CHECK(strlen(cause.message) > sizeof cause.message - 5 && is_utf8(cause.message), "a message that is too long");
        fail_time_limit(&error, &cause);
        CHECK(strlen(error.message) > sizeof error.message - 9 && is_utf8(error.message), "a cause that is too long");
        release(&json);
    }
}

static void a_request_has_at_most_so_many_records_and_bytes(void)
{
    struct buffer body = {NULL, 0, 0};
    size_t count = MAX_REQUEST_RECORDS + 1, bytes = (size_t)3 << 20, i;
    struct fieldsync_record *records = (struct fieldsync_record *)calloc(count, sizeof *records);
    char *large = (char *)malloc(bytes);
    memset(large, ' ', bytes);
    large[0] = '{';
    large[bytes - 1] = '}';
    for (i = 0; i < count; i++) {
        records[i].type = "Visits";
        records[i].payload_json = "{}";
        records[i].key = i == 0 ? "a\"b" : NULL;
        records[i].has_priority = i == 0;
        records[i].priority = 9;
    }
    CHECK(fill_request(&body, MAX_REQUEST_BYTES, records, count) == MAX_REQUEST_RECORDS &&
              is_json(body.data, body.length),
          "records");
    CHECK(fill_request(&body, MAX_REQUEST_BYTES, records, 2) == 2 &&
              strcmp(body.data, "[{\"id\":\"\",\"type\":\"Visits\",\"key\":\"a\\\"b\",\"priority\":9,\"payload\":{}},"
                                "{\"id\":\"\",\"type\":\"Visits\",\"payload\":{}}]") == 0,
          "the form");
    i = body.length;
    CHECK(fill_request(&body, i, records, 2) == 2 && fill_request(&body, i - 1, records, 2) == 1, "fewer bytes");
    CHECK(fill_request(&body, 1, records, 2) == 1, "a record that is larger goes alone");
    for (i = 0; i < 4; i++) {
        records[i].payload_json = large;
        records[i].payload_bytes = bytes;
    }
    CHECK(fill_request(&body, MAX_REQUEST_BYTES, records, 4) == 2 && body.length <= MAX_REQUEST_BYTES &&
              is_json(body.data, body.length),
          "bytes");
    free(large);
    free(records);
    release(&body);
}

static void a_cancelled_client_ends_its_calls_until_it_is_reset(void)
{
    struct fieldsync_client *client = fieldsync_client_new("/nonexistent/fieldsync.sock");
    struct fieldsync_record record;
    struct fieldsync_entry entry;
    struct fieldsync_error error;
    memset(&record, 0, sizeof record);
    record.type = "Visits";
    record.payload_json = "{}";
    fieldsync_cancel(client);
    fieldsync_cancel(client);
    CHECK(fieldsync_enqueue(client, &record, 1, -1, NULL, &error) == FIELDSYNC_CANCELLED, error.message);
    CHECK(fieldsync_wait(client, record.id, NULL, -1, &entry, &error) == FIELDSYNC_CANCELLED, error.message);
    fieldsync_entry_clear(&entry);
    fieldsync_reset_cancel(client);
    CHECK(fieldsync_enqueue(client, &record, 1, 50, NULL, &error) == FIELDSYNC_TIME_LIMIT, error.message);
    CHECK(fieldsync_get_record(client, record.id, 50, &entry, &error) == FIELDSYNC_CONNECTION_FAILED, error.message);
    CHECK(fieldsync_get_record(client, "", 50, &entry, &error) == FIELDSYNC_INVALID_REQUEST, error.message);
    fieldsync_client_free(client);
    fieldsync_client_free(NULL);
}

static void arguments_that_would_damage_a_head_are_refused(void)
{
    struct fieldsync_client *client = fieldsync_client_new("/nonexistent/fieldsync.sock");
    struct fieldsync_events *events;
    struct fieldsync_error error;
    char path[200];
    CHECK(fieldsync_open_events(client, "1\r\nx: y", &events, &error) == FIELDSYNC_INVALID_REQUEST && events == NULL, "an id");
    CHECK(fieldsync_open_events(client, NULL, &events, NULL) == FIELDSYNC_OK && fieldsync_events_fd(events) == -1, "no id");
    CHECK(fieldsync_events_wait_ms(events) == 0, "it is due at once");
    fieldsync_close_events(events);
    fieldsync_client_free(client);
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    CHECK(fieldsync_client_new(path) == NULL && errno == ENAMETOOLONG, "a path that is too long");
}

int main(void)
{
    json_is_accepted_or_refused();
    json_of_any_depth_is_bounded();
    every_prefix_of_json_is_read_within_its_bounds();
    strings_are_decoded();
    members_and_elements_are_found();
    nothing_has_no_members();
    whole_numbers_are_read();
    strings_are_escaped_and_decoded_again();
    ids_have_the_form_of_version_7();
    ids_ascend();
    responses_are_parsed_in_pieces_of_any_size();
    large_heads_and_bodies_are_refused();
    errors_have_the_kind_of_what_the_app_must_do();
    events_are_parsed_in_pieces_of_any_size();
    attempts_are_repeated_on_schedule();
    records_that_would_damage_a_request_are_refused();
    a_response_is_about_the_records_that_were_sent();
    messages_end_between_characters();
    a_request_has_at_most_so_many_records_and_bytes();
    a_cancelled_client_ends_its_calls_until_it_is_reset();
    arguments_that_would_damage_a_head_are_refused();
    printf("%d checks, %d failures\n", checks, failures);
    return failures == 0 ? 0 : 1;
}
