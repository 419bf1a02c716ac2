/**
 * Client of the local API of fieldsync: hands records to the daemon and learns what became of them.
 *
 * One file, no dependency, Node.js 18 or newer. It follows the rules for apps: ids exist before the first attempt,
 * every attempt uses the same ids, and event streams resume after the last event.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * @module fieldsync
 */

import { randomFillSync } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { request as httpRequest } from 'node:http';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

const EVENTS_PATH = '/v1/events';
const DEFAULT_SOCKET = '/run/fieldsync/fieldsync.sock';
const DEFAULT_TIME_LIMIT_MS = 60_000;
const DEFAULT_MAX_RESPONSE_BYTES = 32 << 20;
const MAX_HEAD_BYTES = 64 << 10;
/** Without a response for this long, the request is repeated. */
const ATTEMPT_LIMIT_MS = 60_000;
/** A larger input is sent in several requests. */
const MAX_REQUEST_RECORDS = 10_000;
const MAX_REQUEST_BYTES = 8 << 20;
/** The daemon may be about to create its socket, so the first retry comes early. No delay is shorter. */
const QUICK_RETRY_MS = 100;
const MIN_RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;
const MAX_RECONNECT_MS = 30_000;
/** For responses without Retry-After. */
const UNAVAILABLE_RETRY_MS = 5_000;
const FULL_RETRY_MS = 60_000;
/** The queue of connections of the socket is full for moments only. */
const ACCEPT_RETRY_MS = 20;
/** The last attempt is made this long before the time limit. */
const LAST_ATTEMPT_MS = 1_000;
/** Responses before the real one, such as 100 Continue. The daemon sends none. */
const MAX_INTERIM_RESPONSES = 32;
/** Node.js fires longer timers at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** By code points, so that whole pairs do not match. `isWellFormed` is of Node.js 20. */
const LONE_SURROGATE = /\p{Surrogate}/u;

/** States that a record keeps until a person decides, or forever. */
const END_STATES = Object.freeze(['SYNCED', 'QUARANTINED', 'DISCARDED']);

/**
 * @typedef {'PENDING' | 'SYNCING' | 'SYNCED' | 'FAILED' | 'QUARANTINED' | 'DISCARDED'} RecordState
 *
 * @typedef {object} NewRecord A record to enqueue.
 * @property {string} type What kind of record it is.
 * @property {object} payload Any JSON object.
 * @property {string} [key] Records with the same key are sent in order.
 * @property {number} [priority] 0 to 9; 9 goes first, the default is 5.
 * @property {string} [id] A UUID that identifies the record forever; the client makes one if it is missing.
 *
 * @typedef {object} EnqueueResult
 * @property {number} accepted Records that are new to the daemon.
 * @property {number} duplicates Records that the daemon had already.
 * @property {string[]} ids The ids of all records, in their order.
 *
 * @typedef {object} RecordError
 * @property {string} class
 * @property {number | null} [http_status]
 * @property {string | null} [code]
 * @property {string} message
 * @property {string} at
 * @property {string | null} [field] JSON Pointer to the part of the payload that is wrong.
 *
 * @typedef {object} RecordEntry What the daemon knows of a record.
 * @property {string} id
 * @property {number} seq
 * @property {string} type
 * @property {string | null} key
 * @property {number} priority
 * @property {RecordState} state
 * @property {number} attempts How often it was sent and the server may have had it.
 * @property {number} sends How often it was sent, at least.
 * @property {number} payload_bytes
 * @property {number} submitter The user (uid) who submitted it.
 * @property {string} created_at
 * @property {string} updated_at
 * @property {string | null} next_attempt_at
 * @property {string | null} batch_id
 * @property {RecordError | null} last_error
 * @property {string | null} [held_by] The record that blocks it: an earlier one of its key.
 * @property {number} [holds] How many later records of its key it blocks; 1000 means 1000 or more.
 * @property {string | null} [discarded_by] The user who discarded it.
 * @property {boolean} [redacted] Whether the key, the receipt and parts of the error are left out for this user.
 * @property {Record<string, unknown> | null} [receipt] What the server said that the record became.
 * @property {{reason: string, until: string | null, held_by: string | null, text: string, remedy?: string | null} | null} [waiting_for]
 *
 * @typedef {object} LookupResult
 * @property {RecordEntry[]} records
 * @property {string[]} unknown Ids that the daemon does not know.
 *
 * @typedef {object} ChangesPage
 * @property {RecordEntry[]} records
 * @property {string[]} [unknown] Ids whose entries are gone.
 * @property {string} next The cursor for the next call.
 *
 * @typedef {Record<string, any>} Status The object of `GET /v1/status`.
 *
 * @typedef {object} FieldsyncEvent
 * @property {string} id
 * @property {string} event `status`, `progress`, `batch`, `record`, `breaker`, `connectivity`, `alert` or `gap`.
 * @property {any} data
 *
 * @typedef {object} CallOptions
 * @property {number} [timeLimitMs] How long the call may take; the default is 60,000, and none for `events`.
 * @property {AbortSignal} [signal] Ends the call early; it then rejects with the reason of the signal,
 *   `enqueue` with an `AbortedError`.
 *
 * @typedef {object} FailureDetails
 * @property {number | null} [status]
 * @property {string | null} [code]
 * @property {number | null} [position]
 * @property {number | null} [retryAfterMs]
 * @property {unknown} [cause]
 */

/**
 * Base of all errors of this module. An aborted call rejects with the reason of its signal instead, except `enqueue`: see
 * `AbortedError`.
 */
export class FieldsyncError extends Error {
  /** The kind of the error, the same word in the clients of all languages. */
  kind = 'api';
  /**
   * Of `enqueue`: the ids of all its records. Repeat the call with them.
   * @type {string[] | null}
   */
  ids = null;
  /**
   * Of `enqueue`: the ids that are known to be stored. A repetition counts them as duplicates.
   * @type {string[]}
   */
  storedIds = [];

  /**
   * @param {string} message
   * @param {{cause?: unknown}} [options]
   */
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The daemon responded with an error. The subclasses name what the app must do. */
export class ApiError extends FieldsyncError {
  /**
   * @param {string} message
   * @param {FailureDetails} [details]
   */
  constructor(message, details = {}) {
    super(message, { cause: details.cause });
    /** The HTTP status. */
    this.status = details.status ?? null;
    /** The code of the API, for example `invalid_record`. */
    this.code = details.code ?? null;
    /** Which record is wrong, starting at 1. */
    this.position = details.position ?? null;
    /** When the same request may succeed, in milliseconds. */
    this.retryAfterMs = details.retryAfterMs ?? null;
  }
}

/** The request is wrong: correct it. Nothing of the request at `position` was stored. */
export class InvalidRequestError extends ApiError {
  kind = 'invalid_request';
}

/** The call is for admins, or the record is another user's. */
export class NotPermittedError extends ApiError {
  kind = 'not_permitted';
}

/** The id is wrong, or the entry of the record is gone. */
export class NoSuchRecordError extends ApiError {
  kind = 'no_such_record';
}

/** The id is known with other content, or the state of the record does not allow the call. */
export class ConflictError extends ApiError {
  kind = 'conflict';
}

/** The cursor is too old: take a new one with `changes('now')`, then look the open records up. */
export class CursorExpiredError extends ApiError {
  kind = 'cursor_expired';
}

/** The daemon is stopping, busy, or its disk has errors: repeat the call later. */
export class UnavailableError extends ApiError {
  kind = 'unavailable';
}

/** The queue or the disk is full: keep the records, and repeat the call after `retryAfterMs`. */
export class QueueFullError extends ApiError {
  kind = 'queue_full';
}

/** There is no daemon at the socket, or the connection was lost before the response. */
export class ConnectionFailedError extends FieldsyncError {
  kind = 'connection_failed';
  /**
   * @param {string} message
   * @param {{cause?: unknown, code?: string | null, connected?: boolean}} [options]
   */
  constructor(message, options = {}) {
    super(message, { cause: options.cause });
    /** The code of the system, for example `ENOENT`. */
    this.code = options.code ?? null;
    /** Whether the request may have reached the daemon. */
    this.connected = options.connected ?? false;
  }
}

/** The time limit is over. The outcome may be unknown: `ids` are those to repeat the call with. */
export class TimeLimitError extends FieldsyncError {
  kind = 'time_limit';
  /**
   * Of `wait`: the last entry that was read.
   * @type {RecordEntry | null}
   */
  entry = null;
}

/** The signal of an `enqueue` has aborted it; `cause` is the reason. The outcome may be unknown: repeat it with `ids`. */
export class AbortedError extends FieldsyncError {
  kind = 'cancelled';
}

/** The response is not HTTP or JSON, or it is too large. */
export class ProtocolError extends FieldsyncError {
  kind = 'protocol';
}

/** The state of the id generator: ids ascend within a process, also if the clock is set back. */
const idState = { timeMs: 0, random: 0n };

/**
 * Makes an id for a record: a UUID of version 7, larger than all earlier ones of this process.
 *
 * @returns {string}
 */
export function newId() {
  const now = Date.now();
  if (now > idState.timeMs) {
    idState.timeMs = now;
    idState.random = randomBits();
  } else {
    idState.random += 1n;
    if (idState.random >> 74n) {
      idState.timeMs += 1;
      idState.random = randomBits();
    }
  }
  return formatId(idState.timeMs, idState.random);
}

/** 73 random bits: the highest of the 74 bits is zero, so that counting up has room. */
function randomBits() {
  return BigInt(`0x${randomFillSync(Buffer.alloc(10)).toString('hex')}`) & ((1n << 73n) - 1n);
}

/**
 * @internal
 * @param {number} timeMs
 * @param {bigint} random 74 bits.
 */
export function formatId(timeMs, random) {
  const high = (random >> 62n) & 0xfffn;
  const low = random & ((1n << 62n) - 1n);
  const bits = (BigInt(timeMs) << 80n) | (7n << 76n) | (high << 64n) | (2n << 62n) | low;
  const digits = bits.toString(16).padStart(32, '0');
  const parts = [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]];
  return parts.map(([from, to]) => digits.slice(from, to)).join('-');
}

/**
 * Parses Server-Sent Events as the standard says, whatever the pieces are that they arrive in.
 *
 * @internal
 */
export class EventParser {
  #decoder = new TextDecoder();
  /**
   * The pieces of a line whose end has not arrived.
   * @type {string[]}
   */
  #line = [];
  #afterCarriageReturn = false;
  #event = '';
  /** @type {string[]} */
  #data = [];
  /** Of the line and of the data. */
  #heldChars = 0;
  /** Of the event that is being read. */
  #id;
  #maxChars;
  /** The id of the last event that has ended. */
  lastEventId;
  /** @type {number | null} */
  retryMs = null;

  /**
   * @param {string} lastEventId
   * @param {number} maxChars The largest event.
   */
  constructor(lastEventId = '', maxChars = DEFAULT_MAX_RESPONSE_BYTES) {
    this.lastEventId = lastEventId;
    this.#id = lastEventId;
    this.#maxChars = maxChars;
  }

  /**
   * @param {Uint8Array} bytes
   * @returns {Generator<{id: string, event: string, data: string}>}
   */
  *push(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    let start = this.#afterCarriageReturn && text.startsWith('\n') ? 1 : 0;
    this.#afterCarriageReturn &&= text === '';
    for (const end of text.matchAll(/\r\n|\r|\n/g)) {
      if (end.index < start) {
        continue;
      }
      this.#hold(text.slice(start, end.index));
      start = end.index + end[0].length;
      this.#afterCarriageReturn = end[0] === '\r' && start === text.length;
      const line = this.#line.join('');
      this.#line = [];
      this.#heldChars -= line.length;
      const event = this.#readLine(line);
      if (event) {
        yield event;
      }
    }
    this.#hold(text.slice(start));
  }

  /** @param {string} piece */
  #hold(piece) {
    this.#heldChars += piece.length;
    if (this.#heldChars > this.#maxChars) {
      throw new ProtocolError(`an event is larger than ${this.#maxChars} characters`);
    }
    if (piece !== '') {
      this.#line.push(piece);
    }
  }

  /** @param {string} line */
  #readLine(line) {
    if (line === '') {
      return this.#endEvent();
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    value = value.startsWith(' ') ? value.slice(1) : value;
    if (field === 'event') {
      this.#event = value;
    } else if (field === 'data') {
      this.#data.push(value);
      this.#heldChars += value.length + 1;
    } else if (field === 'id' && !value.includes('\0')) {
      this.#id = value;
    } else if (field === 'retry' && /^[0-9]{1,9}$/.test(value)) {
      this.retryMs = Number(value);
    }
    return null;
  }

  #endEvent() {
    const event = { id: this.#id, event: this.#event || 'message', data: this.#data.join('\n') };
    const hasData = this.#data.length > 0;
    this.#event = '';
    this.#data = [];
    this.#heldChars = 0;
    this.lastEventId = this.#id;
    return hasData ? event : null;
  }
}

/**
 * When a failed attempt is repeated.
 *
 * @internal
 */
export class RetrySchedule {
  #quickRetryLeft = true;
  #deniedRetryLeft = true;
  #lastAttemptLeft = true;
  #delayMs = MIN_RETRY_MS;

  /**
   * Returns the delay before the next attempt in milliseconds, or null if there is none.
   *
   * @param {unknown} error Why the attempt failed.
   * @param {number} remainingMs The rest of the time limit.
   */
  nextDelayMs(error, remainingMs) {
    if (isDenied(error) && this.#deniedRetryLeft && QUICK_RETRY_MS < remainingMs) {
      this.#deniedRetryLeft = false;
      return QUICK_RETRY_MS;
    }
    if (!isRepeatable(error)) {
      return null;
    }
    if (error instanceof UnavailableError || error instanceof QueueFullError) {
      const isFull = error instanceof QueueFullError;
      const askedMs = error.retryAfterMs ?? (isFull ? FULL_RETRY_MS : UNAVAILABLE_RETRY_MS);
      const delayMs = Math.max(askedMs, QUICK_RETRY_MS);
      return delayMs < remainingMs ? delayMs : null;
    }
    if (isRefused(error) && this.#quickRetryLeft && QUICK_RETRY_MS < remainingMs) {
      this.#quickRetryLeft = false;
      return QUICK_RETRY_MS;
    }
    const delayMs = this.#delayMs;
    this.#delayMs = Math.min(2 * delayMs, MAX_RETRY_MS);
    if (delayMs < remainingMs) {
      return delayMs;
    }
    if (!this.#lastAttemptLeft || remainingMs <= 0) {
      return null;
    }
    this.#lastAttemptLeft = false;
    return Math.max(remainingMs - LAST_ATTEMPT_MS, remainingMs / 2);
  }
}

/**
 * Whether the same call may succeed later.
 *
 * @param {unknown} error
 */
function isRepeatable(error) {
  if (error instanceof ConnectionFailedError) {
    return !isDenied(error);
  }
  if (error instanceof UnavailableError) {
    return error.status !== 500 || error.code === 'store_failed';
  }
  return error instanceof QueueFullError || error instanceof AttemptTimeout;
}

/**
 * Whether the user may not open the socket. A process gets no further groups, so this stays. But the daemon sets the mode
 * of a new socket just after it made it, so once is not enough to know.
 *
 * @param {unknown} error
 */
function isDenied(error) {
  return error instanceof ConnectionFailedError && error.code === 'EACCES';
}

/** @param {unknown} error */
function isRefused(error) {
  return error instanceof ConnectionFailedError && !error.connected;
}

/** No response within the limit of one attempt. */
class AttemptTimeout extends Error {}

/**
 * The end of the request that begins with this record. It has at least one record.
 *
 * @internal
 * @param {string[]} encoded Each record as JSON.
 * @param {number} from
 * @param {number} [maxBytes]
 */
export function endOfRequest(encoded, from, maxBytes = MAX_REQUEST_BYTES) {
  let [to, bytes] = [from, 1];
  while (to < encoded.length && to - from < MAX_REQUEST_RECORDS) {
    bytes += Buffer.byteLength(encoded[to]) + 1;
    if (bytes > maxBytes && to > from) {
      break;
    }
    to += 1;
  }
  return to;
}

/**
 * Builds the error for a response of the daemon.
 *
 * @internal
 * @param {number} status
 * @param {string | undefined} retryAfter The header.
 * @param {string} body
 * @returns {ApiError | ProtocolError}
 */
export function errorOfResponse(status, retryAfter, body) {
  if (status < 400 || status > 599) {
    return new ProtocolError(`the response has the unexpected status ${status}`);
  }
  /** @type {{code?: unknown, message?: unknown, position?: unknown}} */
  let error = {};
  try {
    error = JSON.parse(body)?.error ?? {};
  } catch {
    // Errors of the HTTP layer have no body.
  }
  const code = typeof error.code === 'string' ? error.code : null;
  const message = typeof error.message === 'string' ? error.message : `the daemon responded with status ${status}`;
  const position = typeof error.position === 'number' ? error.position : null;
  const retryAfterMs = retryAfter && /^[0-9]{1,9}$/.test(retryAfter) ? Number(retryAfter) * 1000 : null;
  const type = errorTypeOf(status, code);
  return new type(code ? `${code}: ${message}` : message, { status, code, position, retryAfterMs });
}

/**
 * @param {number} status
 * @param {string | null} code
 */
function errorTypeOf(status, code) {
  if (status === 507) {
    return QueueFullError;
  }
  switch (status) {
    // The body of the request did not arrive in time.
    case 408:
    case 500:
    case 503:
      return UnavailableError;
    case 403:
      return NotPermittedError;
    case 404:
      return code === 'no_such_record' ? NoSuchRecordError : InvalidRequestError;
    case 409:
      return ConflictError;
    case 410:
      return CursorExpiredError;
    default:
      return status < 500 ? InvalidRequestError : ApiError;
  }
}

/** A deadline and a signal of the caller, as one signal. */
class CallLimit {
  #controller = new AbortController();
  /** @type {NodeJS.Timeout | undefined} */
  #timer;
  #deadline;
  #caller;
  #onAbort = () => this.#controller.abort();

  /**
   * @param {number} timeLimitMs
   * @param {AbortSignal | undefined} caller
   */
  constructor(timeLimitMs, caller) {
    if (typeof timeLimitMs !== 'number' || !(timeLimitMs >= 0)) {
      throw new TypeError('timeLimitMs must be a number of milliseconds, zero or more');
    }
    caller?.throwIfAborted();
    this.#caller = caller;
    this.#deadline = performance.now() + timeLimitMs;
    if (timeLimitMs <= MAX_TIMER_MS) {
      this.#timer = setTimeout(this.#onAbort, timeLimitMs);
    }
    if (caller) {
      // Node.js 18 prints a warning otherwise when many calls have the same signal; newer versions do not.
      setMaxListeners(0, caller);
      caller.addEventListener('abort', this.#onAbort, { once: true });
    }
  }

  get signal() {
    return this.#controller.signal;
  }

  get remainingMs() {
    return this.#deadline - performance.now();
  }

  /** Throws the reason of the caller's signal if that is why the call ended. */
  throwIfCallerAborted() {
    this.#caller?.throwIfAborted();
  }

  /** @param {number} delayMs */
  async sleep(delayMs) {
    try {
      await sleep(Math.min(delayMs, MAX_TIMER_MS), undefined, { signal: this.signal });
    } catch {
      // The caller looks at the signal.
    }
  }

  dispose() {
    clearTimeout(this.#timer);
    this.#caller?.removeEventListener('abort', this.#onAbort);
  }
}

/**
 * A client of the daemon. It holds no connection and no timer between calls, and any number of calls may run at once.
 */
export class Client {
  #socket;
  #maxResponseBytes;

  /**
   * @param {{socket?: string, maxResponseBytes?: number}} [options] `socket`: the default is `$FIELDSYNC_SOCKET`, or
   *   else `/run/fieldsync/fieldsync.sock`. `maxResponseBytes`: larger responses are a `ProtocolError`; 32 MiB.
   */
  constructor(options = {}) {
    // Node.js takes an empty path for TCP to localhost.
    this.#socket = options.socket || process.env.FIELDSYNC_SOCKET || DEFAULT_SOCKET;
    this.#maxResponseBytes = options.maxResponseBytes ?? DEFAULT_MAX_RESPONSE_BYTES;
  }

  /**
   * Hands records over to the daemon. It resolves once they are on disk; then the app may forget their payloads.
   *
   * Attempts that fail are repeated under the same ids until the time limit. More than 10,000 records or 8 MiB are
   * sent in several requests, each of which is stored whole or not at all. They are smaller if the daemon takes less.
   *
   * @param {NewRecord | NewRecord[]} records
   * @param {CallOptions} [options]
   * @returns {Promise<EnqueueResult>}
   */
  async enqueue(records, options = {}) {
    const list = Array.isArray(records) ? records : [records];
    list.forEach(requireObject);
    const ids = list.map((record) => record.id ?? newId());
    const encoded = list.map((record, at) => encodeRecord(record, ids[at]));
    const result = { accepted: 0, duplicates: 0, ids };
    let storedRecords = 0;
    let maxBytes = MAX_REQUEST_BYTES;
    /** @type {CallLimit | null} */
    let callLimit = null;
    try {
      const limit = new CallLimit(options.timeLimitMs ?? DEFAULT_TIME_LIMIT_MS, options.signal);
      callLimit = limit;
      while (storedRecords < encoded.length) {
        const to = endOfRequest(encoded, storedRecords, maxBytes);
        const count = to - storedRecords;
        const body = Buffer.from(`[${encoded.slice(storedRecords, to).join(',')}]`);
        let stored;
        try {
          stored = await this.#repeat(limit, () => this.#call('POST', '/v1/records', limit, body));
        } catch (error) {
          if (!(error instanceof ApiError && error.code === 'request_too_large') || count === 1) {
            throw error;
          }
          // Half of these records, if they are equally long.
          maxBytes = Math.ceil(body.length / 2);
          continue;
        }
        const { accepted, duplicates } = stored;
        if (!isCount(accepted) || !isCount(duplicates) || accepted + duplicates !== count) {
          throw new ProtocolError('the response counts other records than those of the request');
        }
        if (!Array.isArray(stored.ids) || stored.ids.length !== count) {
          throw new ProtocolError('the response has other ids than those of the request');
        }
        result.accepted += accepted;
        result.duplicates += duplicates;
        storedRecords = to;
      }
      return result;
    } catch (caught) {
      const isAborted = options.signal?.aborted && caught === options.signal.reason;
      const error = isAborted ? new AbortedError('the call was aborted', { cause: caught }) : caught;
      if (error instanceof FieldsyncError) {
        error.ids = ids;
        error.storedIds = ids.slice(0, storedRecords);
      }
      if (error instanceof ApiError && error.position !== null) {
        error.position += storedRecords;
      }
      throw error;
    } finally {
      callLimit?.dispose();
    }
  }

  /**
   * Waits until a record is in one of the states, and returns its entry; that of a synced record has the `receipt`.
   *
   * Follows the events of the daemon, also through its restarts. States other than the default ones are noticed when
   * a batch ends; a short one may be missed.
   *
   * @param {string} id
   * @param {CallOptions & {states?: readonly RecordState[] | null}} [options] `states`: the default is SYNCED,
   *   QUARANTINED or DISCARDED.
   * @returns {Promise<RecordEntry>}
   */
  async wait(id, options = {}) {
    const states = options.states ?? /** @type {readonly RecordState[]} */ (END_STATES);
    const followsBatches = states.some((state) => !END_STATES.includes(state));
    /** @type {RecordEntry | null} */
    let entry = null;
    const limit = new CallLimit(options.timeLimitMs ?? DEFAULT_TIME_LIMIT_MS, options.signal);
    try {
      // Each connection begins with `status`. The record is read after that, so no change falls in between.
      for await (const { event, data } of this.#follow('', limit)) {
        const concerns =
          event === 'status' ||
          event === 'gap' ||
          (event === 'record' && (!entry || data?.id === entry.id)) ||
          (event === 'batch' && followsBatches);
        if (concerns) {
          entry = /** @type {RecordEntry} */ (
            await this.#repeat(limit, () => this.#call('GET', recordPath(id), limit))
          );
          if (states.includes(entry.state)) {
            return entry;
          }
        }
      }
      throw new ProtocolError('the events ended');
    } catch (error) {
      if (error instanceof TimeLimitError) {
        error.entry = entry;
      }
      throw error;
    } finally {
      limit.dispose();
    }
  }

  /**
   * Returns the status of the daemon.
   *
   * @param {CallOptions} [options]
   * @returns {Promise<Status>}
   */
  async status(options) {
    return this.#callOnce('GET', '/v1/status', options);
  }

  /**
   * Returns the entry of a record.
   *
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Promise<RecordEntry>}
   */
  async record(id, options) {
    return this.#callOnce('GET', recordPath(id), options);
  }

  /**
   * Returns the entries of up to 1000 records.
   *
   * @param {readonly string[]} ids
   * @param {CallOptions} [options]
   * @returns {Promise<LookupResult>}
   */
  async lookup(ids, options) {
    return this.#callOnce('POST', '/v1/records/lookup', options, Buffer.from(JSON.stringify({ ids })));
  }

  /**
   * Lists the records that changed since a cursor. Process them, then store `next`. There may be more as long as `next`
   * differs from the cursor.
   *
   * @param {string} cursor `now`, or the `next` of an earlier call.
   * @param {CallOptions & {limit?: number}} [options] `limit`: changes a page, at most 1000.
   * @returns {Promise<ChangesPage>}
   */
  async changes(cursor, options = {}) {
    const query = new URLSearchParams({ changed_after: cursor });
    if (options.limit !== undefined) {
      query.set('limit', String(options.limit));
    }
    return this.#callOnce('GET', `/v1/records?${query}`, options);
  }

  /**
   * Follows the events of the daemon, and reconnects after the last event when the stream ends.
   *
   * It ends when the loop over it ends, at an error that a repetition does not correct, at the time limit (the default is
   * none), and when the signal aborts. To end it from outside the loop, abort the signal.
   *
   * @param {CallOptions & {lastEventId?: string | null}} [options] `lastEventId`: the last event that was processed.
   * @returns {AsyncGenerator<FieldsyncEvent, void, undefined>}
   */
  async *events(options = {}) {
    const limit = new CallLimit(options.timeLimitMs ?? Infinity, options.signal);
    try {
      yield* this.#follow(options.lastEventId ?? '', limit);
    } finally {
      limit.dispose();
    }
  }

  /**
   * @param {string} lastEventId
   * @param {CallLimit} limit
   * @returns {AsyncGenerator<FieldsyncEvent, void, undefined>}
   */
  async *#follow(lastEventId, limit) {
    let minDelayMs = MIN_RETRY_MS;
    let delayMs = minDelayMs;
    let wasDenied = false;
    for (;;) {
      /** @type {unknown} */
      let cause = null;
      /** @type {import('node:http').IncomingMessage | null} */
      let response = null;
      const parser = new EventParser(lastEventId, this.#maxResponseBytes);
      try {
        response = await this.#openEvents(lastEventId, limit);
        wasDenied = false;
        for await (const chunk of response) {
          for (const { id, event, data } of parser.push(chunk)) {
            minDelayMs = Math.max(Math.min(parser.retryMs ?? minDelayMs, MAX_RECONNECT_MS), QUICK_RETRY_MS);
            delayMs = minDelayMs;
            yield { id, event, data: parseJson(data) };
          }
        }
      } catch (error) {
        cause = this.#explain(error, true);
      } finally {
        response?.destroy();
      }
      lastEventId = parser.lastEventId;
      limit.throwIfCallerAborted();
      if (limit.signal.aborted) {
        throw new TimeLimitError('the time limit is over', { cause });
      }
      if (isDenied(cause) && !wasDenied) {
        wasDenied = true;
        await limit.sleep(QUICK_RETRY_MS);
        continue;
      }
      if (cause !== null && !isRepeatable(cause) && !(cause instanceof UnavailableError)) {
        throw cause;
      }
      const retryAfterMs = cause instanceof ApiError ? cause.retryAfterMs : null;
      await limit.sleep(Math.max(retryAfterMs ?? 0, delayMs));
      delayMs = Math.min(Math.max(2 * delayMs, MIN_RETRY_MS), MAX_RECONNECT_MS);
    }
  }

  /**
   * @param {string} lastEventId
   * @param {CallLimit} limit
   */
  async #openEvents(lastEventId, limit) {
    /** @type {Record<string, string>} */
    const headers = { Accept: 'text/event-stream' };
    if (lastEventId !== '') {
      // Node.js sends the bytes of Latin-1.
      headers['Last-Event-ID'] = Buffer.from(lastEventId).toString('latin1');
    }
    const response = await this.#send('GET', EVENTS_PATH, headers, limit);
    if (response.statusCode === 200) {
      if (/^text\/event-stream\s*(;|$)/i.test(response.headers['content-type'] ?? '')) {
        return response;
      }
      response.destroy();
      throw new ProtocolError('the response is not a stream of events');
    }
    const body = await this.#readBody(response);
    throw errorOfResponse(response.statusCode ?? 0, response.headers['retry-after'], body);
  }

  /**
   * Repeats a call until it succeeds, fails permanently, or no further attempt fits into the time limit.
   *
   * @template T
   * @param {CallLimit} limit
   * @param {() => Promise<T>} call
   * @returns {Promise<T>}
   */
  async #repeat(limit, call) {
    const schedule = new RetrySchedule();
    /** @type {unknown} */
    let cause = null;
    for (;;) {
      try {
        return await call();
      } catch (error) {
        limit.throwIfCallerAborted();
        if (error instanceof TimeLimitError) {
          throw new TimeLimitError('the time limit is over', { cause: cause ?? error.cause });
        }
        cause = error;
      }
      const delayMs = schedule.nextDelayMs(cause, limit.remainingMs);
      if (delayMs === null) {
        if (cause instanceof QueueFullError || !isRepeatable(cause)) {
          throw cause;
        }
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new TimeLimitError(`no further attempt fits into the time limit; the last one failed: ${reason}`, {
          cause,
        });
      }
      await limit.sleep(delayMs);
      limit.throwIfCallerAborted();
      if (limit.signal.aborted) {
        throw new TimeLimitError('the time limit is over', { cause });
      }
    }
  }

  /**
   * @param {'GET' | 'POST'} method
   * @param {string} path
   * @param {CallOptions} [options]
   * @param {Buffer} [body]
   * @returns {Promise<any>}
   */
  async #callOnce(method, path, options = {}, body) {
    const limit = new CallLimit(options.timeLimitMs ?? DEFAULT_TIME_LIMIT_MS, options.signal);
    try {
      return await this.#call(method, path, limit, body);
    } catch (error) {
      throw error instanceof AttemptTimeout ? new TimeLimitError(error.message) : error;
    } finally {
      limit.dispose();
    }
  }

  /**
   * One request and its response, as JSON.
   *
   * @param {'GET' | 'POST'} method
   * @param {string} path
   * @param {CallLimit} limit
   * @param {Buffer} [body]
   * @returns {Promise<any>}
   */
  async #call(method, path, limit, body) {
    let isConnected = false;
    try {
      /** @type {Record<string, string>} */
      const headers = {};
      if (body) {
        headers['Content-Type'] = 'application/json';
        headers['Content-Length'] = String(body.length);
      }
      const response = await this.#send(method, path, headers, limit, body);
      isConnected = true;
      const text = await this.#readBody(response);
      const status = response.statusCode ?? 0;
      if (status === (path === '/v1/records' ? 201 : 200)) {
        return parseObject(text);
      }
      throw errorOfResponse(status, response.headers['retry-after'], text);
    } catch (error) {
      limit.throwIfCallerAborted();
      if (limit.signal.aborted) {
        throw new TimeLimitError('the time limit is over', { cause: error });
      }
      throw this.#explain(error, isConnected);
    }
  }

  /**
   * Sends a request, and resolves with its response once its head has arrived.
   *
   * @param {string} method
   * @param {string} path
   * @param {Record<string, string>} headers
   * @param {CallLimit} limit
   * @param {Buffer} [body]
   * @returns {Promise<import('node:http').IncomingMessage>}
   */
  async #send(method, path, headers, limit, body) {
    const end = performance.now() + ATTEMPT_LIMIT_MS;
    for (;;) {
      try {
        return await this.#sendOnce(method, path, headers, limit, body);
      } catch (error) {
        const isQueueFull = error instanceof ConnectionFailedError && error.code === 'EAGAIN';
        if (!isQueueFull || limit.signal.aborted || performance.now() > end) {
          throw error;
        }
        await limit.sleep(ACCEPT_RETRY_MS);
      }
    }
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {Record<string, string>} headers
   * @param {CallLimit} limit
   * @param {Buffer} [body]
   * @returns {Promise<import('node:http').IncomingMessage>}
   */
  #sendOnce(method, path, headers, limit, body) {
    return new Promise((resolve, reject) => {
      if (limit.signal.aborted) {
        reject(new AttemptTimeout('the time limit is over'));
        return;
      }
      let isConnected = false;
      const request = httpRequest({
        socketPath: this.#socket,
        method,
        path,
        headers: { Host: 'localhost', Connection: 'close', ...headers },
        agent: false,
        maxHeaderSize: MAX_HEAD_BYTES,
      });
      /** @type {import('node:http').IncomingMessage | null} */
      let response = null;
      const end = () => {
        const error = new AttemptTimeout('there was no response in time');
        response?.destroy(error);
        request.destroy(error);
      };
      const timer = setTimeout(end, ATTEMPT_LIMIT_MS);
      limit.signal.addEventListener('abort', end, { once: true });
      request.once('close', () => {
        clearTimeout(timer);
        limit.signal.removeEventListener('abort', end);
      });
      request.on('socket', (socket) => {
        socket.once('connect', () => (isConnected = true));
        keepReading(socket);
      });
      let interimResponses = 0;
      request.on('information', () => {
        interimResponses += 1;
        if (interimResponses > MAX_INTERIM_RESPONSES) {
          request.destroy(new ProtocolError('there are too many interim responses'));
        }
      });
      request.on('response', (received) => {
        // The time is for the body, too. Only a stream of events has no end.
        if (path === EVENTS_PATH && received.statusCode === 200) {
          clearTimeout(timer);
        }
        response = received;
        resolve(received);
      });
      request.on('error', (error) => {
        const explained = this.#explain(error, isConnected);
        reject(explained);
        // A response may be complete before the server has read the request; sending the rest of it fails then. If it is
        // not, the reader of the body would learn only that the connection was lost.
        if (!response?.complete) {
          response?.destroy(/** @type {Error} */ (explained));
        }
      });
      request.end(body);
    });
  }

  /** @param {import('node:http').IncomingMessage} response */
  async #readBody(response) {
    try {
      return await this.#readText(response);
    } finally {
      response.destroy();
    }
  }

  /** @param {import('node:http').IncomingMessage} response */
  async #readText(response) {
    /** @type {Buffer[]} */
    const chunks = [];
    let bytes = 0;
    const encoding = response.headers['transfer-encoding'];
    if (encoding !== undefined && encoding.trim().toLowerCase() !== 'chunked') {
      throw new ProtocolError(`the response has the unknown encoding ${encoding}`);
    }
    if (Number(response.headers['content-length'] ?? 0) > this.#maxResponseBytes) {
      throw new ProtocolError(`the response is larger than ${this.#maxResponseBytes} bytes`);
    }
    for await (const chunk of response) {
      bytes += chunk.length;
      if (bytes > this.#maxResponseBytes) {
        throw new ProtocolError(`the response is larger than ${this.#maxResponseBytes} bytes`);
      }
      chunks.push(chunk);
    }
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
    } catch (error) {
      throw new ProtocolError('the response is not UTF-8', { cause: error });
    }
  }

  /**
   * Turns an error of the system into one of this module.
   *
   * @param {unknown} error
   * @param {boolean} connected
   */
  #explain(error, connected) {
    const code = systemCodeOf(error);
    if (error instanceof FieldsyncError || error instanceof AttemptTimeout || code === null) {
      return error;
    }
    if (code.startsWith('ERR_')) {
      return error;
    }
    if (code.startsWith('HPE_')) {
      return new ProtocolError(`the response is not valid HTTP (${code})`, { cause: error });
    }
    const message = connected
      ? `the connection to ${this.#socket} was lost before the response (${code}); the outcome is unknown`
      : code === 'EACCES'
        ? `the socket ${this.#socket} may not be opened (${code}); is the user a member of the group fieldsync?`
        : `there is no daemon at ${this.#socket} (${code})`;
    return new ConnectionFailedError(message, { cause: error, code, connected });
  }
}

/**
 * Lets a socket be read after the other side has stopped reading: its response may be there already. Node.js would close
 * the socket at the first write that fails. If there is no response, reading fails, too.
 *
 * @param {any} socket
 */
function keepReading(socket) {
  for (const name of ['_write', '_writev']) {
    const write = socket[name];
    socket[name] = (/** @type {any[]} */ ...args) => {
      const done = args.pop();
      write.call(socket, ...args, (/** @type {unknown} */ error) => {
        done(['EPIPE', 'ECONNRESET'].includes(systemCodeOf(error) ?? '') ? null : error);
      });
    };
  }
}

/** @param {unknown} error */
function systemCodeOf(error) {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  return typeof code === 'string' ? code : null;
}

/** @param {string} id */
function recordPath(id) {
  return `/v1/records/${encodeURIComponent(id)}`;
}

/**
 * Encodes a record once, so that all attempts send the same bytes.
 *
 * @param {NewRecord} record
 * @param {string} id
 */
function encodeRecord(record, id) {
  return JSON.stringify({ ...record, id }, refuseLossy);
}

/** @param {unknown} record */
function requireObject(record) {
  if (typeof record !== 'object' || record === null) {
    throw new TypeError('a record must be an object with `type` and `payload`');
  }
}

/**
 * `JSON.stringify` alone would store null instead of such a number, and text that is not Unicode.
 *
 * @param {string} name
 * @param {unknown} value
 */
function refuseLossy(name, value) {
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new TypeError(`JSON has no number ${value}, the value of ${JSON.stringify(name)}`);
  }
  if (LONE_SURROGATE.test(name) || (typeof value === 'string' && LONE_SURROGATE.test(value))) {
    throw new TypeError(`${JSON.stringify(name)} or its value has half a surrogate pair`);
  }
  return value;
}

/** @param {unknown} value */
function isCount(value) {
  return Number.isInteger(value) && /** @type {number} */ (value) >= 0;
}

/** @param {string} text */
function parseObject(text) {
  const value = parseJson(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ProtocolError('the response is not a JSON object');
  }
  return value;
}

/** @param {string} text */
function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ProtocolError('the daemon sent text that is not JSON', { cause: error });
  }
}
