/*
 * A fuzz target for the parsers of fieldsync.c:
 *
 *     clang -std=c99 -g -O1 -fsanitize=fuzzer,address,undefined fuzz.c -o fuzz && ./fuzz -max_total_time=60
 *
 * The first byte chooses the parser. Each input is parsed whole and in pieces, and both must come to the same result.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "fieldsync.c"

#define FUZZ_MAX_BYTES ((size_t)1 << 12)

static void require(int condition)
{
    if (!condition) {
        abort();
    }
}

static void parse_json(const char *text, size_t bytes)
{
    struct fieldsync_slice all = slice_of(text, bytes), value, element;
    char *room = (char *)malloc(bytes + 1);
    size_t position = 0;
    int64_t number, length;
    if (fieldsync_json_member(all, "a", &value)) {
        require(is_json(value.text, value.bytes));
    }
    while (fieldsync_json_element(all, &position, &element)) {
        require(is_json(element.text, element.bytes) && position <= bytes);
    }
    (void)fieldsync_json_integer(all, &number);
    length = fieldsync_json_string(all, room, bytes + 1);
    if (length >= 0) {
        struct buffer again = {NULL, 0, 0};
        char *back = (char *)malloc(bytes + 1);
        require(is_json(text, bytes) && append_json_string(&again, room) && is_json(again.data, again.length));
        require(fieldsync_json_string(slice_of(again.data, again.length), back, bytes + 1) == length &&
                memcmp(room, back, (size_t)length) == 0);
        free(back);
        release(&again);
    }
    free(room);
}

static void parse_response(const char *bytes, size_t count)
{
    struct response whole, pieces;
    struct fieldsync_error error;
    enum fieldsync_error_kind kind, kind_of_pieces = FIELDSYNC_OK;
    size_t i;
    memset(&whole, 0, sizeof whole);
    memset(&pieces, 0, sizeof pieces);
    reset_response(&whole, FUZZ_MAX_BYTES);
    reset_response(&pieces, FUZZ_MAX_BYTES);
    kind = feed_response(&whole, bytes, count, &error);
    for (i = 0; i < count && kind_of_pieces == FIELDSYNC_OK; i++) {
        kind_of_pieces = feed_response(&pieces, bytes + i, 1, &error);
    }
    require(kind == kind_of_pieces);
    if (kind == FIELDSYNC_OK) {
        require(end_response(&whole) == end_response(&pieces) && whole.status == pieces.status &&
                whole.body.length == pieces.body.length && whole.body.length <= FUZZ_MAX_BYTES);
        (void)fail_response(&whole, &error);
    }
    release_response(&whole);
    release_response(&pieces);
}

/* Adds up what the events contain, so that two runs can be compared. */
static size_t count_events(const char *bytes, size_t count, size_t piece)
{
    struct event_parser parser;
    struct fieldsync_error error;
    size_t sum = 0, at = 0;
    int parsed = 0;
    memset(&parser, 0, sizeof parser);
    parser.max_bytes = FUZZ_MAX_BYTES;
    require(reset_parser(&parser));
    while (at < count && parsed >= 0) {
        size_t next = count - at < piece ? count - at : piece;
        require(push_event_bytes(&parser, bytes + at, next));
        at += next;
        while ((parsed = parse_event(&parser, &error)) > 0) {
            sum = sum * 31 + parser.id.length * 7 + parser.name.length * 3 + parser.data.length + 1;
            end_event(&parser);
        }
    }
    release_parser(&parser);
    return parsed < 0 ? (size_t)-1 : sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy;
    if (size == 0) {
        return 0;
    }
    copy = (char *)malloc(size);
    memcpy(copy, data + 1, size - 1);
    switch (data[0] % 3) {
    case 0:
        parse_json(copy, size - 1);
        break;
    case 1:
        parse_response(copy, size - 1);
        break;
    default:
        require(count_events(copy, size - 1, size) == count_events(copy, size - 1, 1));
        break;
    }
    free(copy);
    return 0;
}
