import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import {
  AbortedError, ApiError, Client, ConflictError, ConnectionFailedError, CursorExpiredError, endOfRequest, errorOfResponse, EventParser, FieldsyncError,
  formatId, InvalidRequestError, newId, NoSuchRecordError, NotPermittedError, ProtocolError, QueueFullError, RetrySchedule,
  UnavailableError,
} from '../fieldsync.mjs';

/**
 * @param {string[]} pieces
 * @param {EventParser} [parser]
 */
function parse(pieces, parser = new EventParser()) {
  return pieces.flatMap((piece) => [...parser.push(Buffer.from(piece))]);
}

test('an id has the time, the version and the variant in their places', () => {
  assert.equal(formatId(0x017f22e279b0, 0n), '017f22e2-79b0-7000-8000-000000000000');
  assert.equal(formatId(0x017f22e279b0, (1n << 74n) - 1n), '017f22e2-79b0-7fff-bfff-ffffffffffff');
  // The example of RFC 9562.
  assert.equal(formatId(0x017f22e279b0, (0xcc3n << 62n) | 0x18c4dc0c0c07398fn), '017f22e2-79b0-7cc3-98c4-dc0c0c07398f');
});

test('ids ascend, also while the clock is set back', (context) => {
  const ids = Array.from({ length: 50_000 }, newId);
  context.mock.method(Date, 'now', () => 1);
  ids.push(...Array.from({ length: 100 }, newId));
  assert.deepEqual([...ids].sort(), ids);
  assert.equal(new Set(ids).size, ids.length);
  assert.ok(ids.every((id) => /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id)));
});

/** @type {[string, string, object[]][]} */
const streams = [
  ['one event', 'id: a-1\nevent: record\ndata: {}\n\n', [{ id: 'a-1', event: 'record', data: '{}' }]],
  ['carriage returns', 'id: 1\r\ndata: x\r\n\r\ndata: y\r\r', [
    { id: '1', event: 'message', data: 'x' }, { id: '1', event: 'message', data: 'y' }]],
  ['several lines of data', 'data: a\ndata:b\ndata:  c\n\n', [{ id: '', event: 'message', data: 'a\nb\n c' }]],
  ['comments and unknown fields', ': hi\nfoo: bar\ndata: 1\n\n', [{ id: '', event: 'message', data: '1' }]],
  ['an event without data', 'id: 5\nevent: x\n\ndata: 1\n\n', [{ id: '5', event: 'message', data: '1' }]],
  ['a field without a colon', 'data\n\n', [{ id: '', event: 'message', data: '' }]],
  ['an id with a zero byte', 'id: 1\ndata: 1\n\nid: \u00002\ndata: 2\n\n', [
    { id: '1', event: 'message', data: '1' }, { id: '1', event: 'message', data: '2' }]],
  ['a byte order mark', '\ufeffdata: 1\n\n', [{ id: '', event: 'message', data: '1' }]],
  ['other letters', 'data: {"text": "Grüße 🚚"}\n\n', [{ id: '', event: 'message', data: '{"text": "Grüße 🚚"}' }]],
  ['an incomplete event', 'data: 1\n', []],
];

for (const [name, text, expected] of streams) {
  test(`events are parsed in pieces of any size: ${name}`, () => {
    const bytes = Buffer.from(text);
    for (let size = 1; size <= bytes.length; size += 1) {
      const parser = new EventParser();
      const events = [];
      for (let at = 0; at < bytes.length; at += size) {
        events.push(...parser.push(bytes.subarray(at, at + size)));
      }
      assert.deepEqual(events, expected, `pieces of ${size} bytes`);
    }
  });
}

test('an id counts once its event has ended', () => {
  const parser = new EventParser('a-0');
  parse(['id: a-1\ndata: 1\n'], parser);
  assert.equal(parser.lastEventId, 'a-0');
  parse(['\nid: a-2\n\nid: a-3\ndata: 3\n'], parser);
  assert.equal(parser.lastEventId, 'a-2');
});

test('the delay of retry is taken if it is a number', () => {
  const parser = new EventParser();
  parse(['retry: 250\n', 'retry: soon\n'], parser);
  assert.equal(parser.retryMs, 250);
});

test('an event that is too large is an error, in one line or in many', () => {
  assert.throws(() => parse(['data: ', 'x'.repeat(200)], new EventParser('', 100)), ProtocolError);
  assert.throws(() => parse(Array(30).fill('data: 12345\n'), new EventParser('', 100)), ProtocolError);
});

const refused = new ConnectionFailedError('refused', { code: 'ENOENT' });
const lost = new ConnectionFailedError('lost', { code: 'ECONNRESET', connected: true });
const denied = new ConnectionFailedError('denied', { code: 'EACCES' });
const busy = new UnavailableError('busy', { status: 503, retryAfterMs: 2000 });
const soon = new UnavailableError('soon', { status: 503, retryAfterMs: 0 });
const failed = new UnavailableError('failed', { status: 500, code: 'store_failed' });
const full = new QueueFullError('full', { status: 507, retryAfterMs: 60_000 });

/** @type {[string, unknown[], number, (number | null)[]][]} */
const schedules = [
  ['a missing socket', Array(10).fill(refused), 1e9, [100, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]],
  ['a lost connection', [lost, lost, refused, lost], 1e9, [1000, 2000, 100, 4000]],
  ['a socket that may not be opened', [refused, denied, denied], 1e9, [100, 100, null]],
  ['a socket that may not be opened, without time', [denied], 100, [null]],
  ['Retry-After of zero', [soon, soon], 1e9, [100, 100]],
  ['Retry-After of zero, without time', [soon], 100, [null]],
  ['Retry-After', [busy, lost, failed, busy], 1e9, [2000, 1000, 5000, 2000]],
  ['a last attempt before the time limit', [lost, lost], 900, [450, null]],
  ['a last attempt a second before the time limit', [refused, lost, lost, lost, lost], 3500, [100, 1000, 2000, 2500, null]],
  ['a full queue with time', [full], 61_000, [60_000]],
  ['a full queue without time', [full], 60_000, [null]],
  ['no time at all', [lost], 0, [null]],
  ['errors of the request', [new InvalidRequestError('no'), new ConflictError('no'), new ProtocolError('no')], 1e9, [null, null, null]],
  ['another error of the daemon', [new UnavailableError('no', { status: 500, code: 'metrics_failed' })], 1e9, [null]],
];

for (const [name, errors, remainingMs, expected] of schedules) {
  test(`attempts are repeated on schedule: ${name}`, () => {
    const schedule = new RetrySchedule();
    assert.deepEqual(errors.map((error) => schedule.nextDelayMs(error, remainingMs)), expected);
  });
}

/** @type {[number, string | null, typeof ApiError, string][]} */
const errors = [
  [400, 'invalid_record', InvalidRequestError, 'invalid_request'], [404, 'not_found', InvalidRequestError, 'invalid_request'],
  [405, 'method_not_allowed', InvalidRequestError, 'invalid_request'], [413, 'record_too_large', InvalidRequestError, 'invalid_request'],
  [431, null, InvalidRequestError, 'invalid_request'], [403, 'not_permitted', NotPermittedError, 'not_permitted'],
  [404, 'no_such_record', NoSuchRecordError, 'no_such_record'], [409, 'id_conflict', ConflictError, 'conflict'],
  [410, 'cursor_expired', CursorExpiredError, 'cursor_expired'], [500, 'store_failed', UnavailableError, 'unavailable'],
  [503, 'busy', UnavailableError, 'unavailable'], [408, null, UnavailableError, 'unavailable'],
  [500, 'metrics_failed', UnavailableError, 'unavailable'], [502, null, ApiError, 'api'], [507, 'queue_full', QueueFullError, 'queue_full'],
];

test('errors have the type of what the app must do', () => {
  for (const [status, code, type, kind] of errors) {
    const body = code ? JSON.stringify({ error: { code, message: 'why', position: 7 } }) : '';
    const error = /** @type {ApiError} */ (errorOfResponse(status, '3', body));
    assert.equal(error.constructor, type, `${status} ${code}`);
    assert.ok(error instanceof FieldsyncError && error.kind === kind && error.name === type.name);
    assert.deepEqual([error.status, error.code, error.position, error.retryAfterMs], [status, code, code ? 7 : null, 3000]);
  }
  assert.ok(errorOfResponse(302, undefined, '') instanceof ProtocolError);
  assert.equal(/** @type {ApiError} */ (errorOfResponse(503, 'tomorrow', '[]')).retryAfterMs, null);
});

test('a large input is split by records and by bytes', () => {
  assert.deepEqual([0, 10_000, 20_000].map((from) => endOfRequest(Array(25_000).fill('{}'), from)), [10_000, 20_000, 25_000]);
  // With brackets and comma, the first two are exactly as large as a request may be.
  const encoded = ['12345', '12345', '123456789012', '1', '1'];
  assert.deepEqual([0, 2, 3].map((from) => endOfRequest(encoded, from, 13)), [2, 3, 5]);
  assert.equal(endOfRequest(encoded, 0, 12), 1);
  assert.equal(endOfRequest(['ü'.repeat(4), '1'], 0, 11), 1, 'bytes are counted, not letters');
});

test('a wrong argument is reported before anything is sent', async () => {
  const client = new Client({ socket: '/nonexistent/fieldsync.sock' });
  await assert.rejects(client.status({ timeLimitMs: -1 }), TypeError);
  for (const number of [NaN, Infinity, 1n]) {
    await assert.rejects(client.enqueue({ type: 'Visits', payload: { deep: [{ number }] } }), TypeError);
  }
  for (const wrong of [null, [null], 'Visits']) {
    await assert.rejects(client.enqueue(/** @type {any} */ (wrong)), /a record must be an object/);
  }
  for (const payload of [{ text: '\ud800' }, { ['\udc00x']: 1 }]) {
    await assert.rejects(client.enqueue({ type: 'Visits', payload }), /surrogate/);
  }
  await assert.rejects(client.enqueue({ type: 'a\ud83e', payload: {} }), TypeError);
  await assert.rejects(client.enqueue({ type: 'a', payload: { text: '🚚' } }, { timeLimitMs: 0 }), FieldsyncError);
  assert.deepEqual(await client.enqueue([]), { accepted: 0, duplicates: 0, ids: [] });
});

test('a call without a daemon fails, or ends with its time limit or signal', async () => {
  const client = new Client({ socket: '/nonexistent/fieldsync.sock' });
  await assert.rejects(client.status(), (error) => error instanceof ConnectionFailedError && error.code === 'ENOENT');
  const record = { id: newId(), type: 'Visits', payload: {} };
  await assert.rejects(client.enqueue(record, { timeLimitMs: 150 }), (/** @type {any} */ error) => {
    assert.deepEqual([error.kind, error.ids, error.storedIds], ['time_limit', [record.id], []]);
    return error.cause instanceof ConnectionFailedError;
  });
  const stop = new AbortController();
  const waiting = client.wait(record.id, { signal: stop.signal });
  stop.abort(new Error('the app ends'));
  await assert.rejects(waiting, /the app ends/);
  await assert.rejects(client.status({ signal: stop.signal }), /the app ends/);
});

test('an aborted enqueue has the ids of its records', async () => {
  const client = new Client({ socket: '/nonexistent/fieldsync.sock' });
  const stop = new AbortController();
  const reason = new Error('the app ends');
  const handing = client.enqueue([{ type: 'Visits', payload: {} }], { signal: stop.signal });
  stop.abort(reason);
  for (const call of [handing, client.enqueue({ type: 'Visits', payload: {} }, { signal: stop.signal })]) {
    await assert.rejects(call, (/** @type {any} */ error) => {
      assert.ok(error instanceof AbortedError && error instanceof FieldsyncError);
      assert.deepEqual([error.kind, error.ids?.length, error.storedIds], ['cancelled', 1, []]);
      return error.cause === reason;
    });
  }
});

test('a response to a request that was not read is not lost', async (context) => {
  const directory = mkdtempSync(join(tmpdir(), 'fieldsync-'));
  const socket = join(directory, 'api.sock');
  const server = createServer((connection) => {
    connection.on('error', () => {});
    connection.once('data', () => {
      connection.write('HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}', () => connection.destroy());
    });
  });
  context.after(() => {
    server.close();
    rmSync(directory, { recursive: true });
  });
  await new Promise((resolve) => server.listen(socket, () => resolve(null)));
  const ids = Array(300_000).fill('01990b3c-4d5e-7f60-8a7b-abcdefabcdef');
  for (let call = 0; call < 20; call += 1) {
    // One attempt only.
    await assert.rejects(new Client({ socket }).lookup(ids), InvalidRequestError);
  }
});
