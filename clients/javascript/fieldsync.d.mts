/**
 * Types of fieldsync.mjs.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/** Makes an id for a record: a UUID of version 7, larger than all earlier ones of this process. */
export function newId(): string;

/** Names the kind of an error, the same in the clients of all languages. */
export type ErrorKind =
  | 'api'
  | 'invalid_request'
  | 'not_permitted'
  | 'no_such_record'
  | 'conflict'
  | 'cursor_expired'
  | 'unavailable'
  | 'queue_full'
  | 'connection_failed'
  | 'time_limit'
  | 'cancelled'
  | 'protocol';

/**
 * Base of all errors of this module. An aborted call rejects with the reason of its signal instead, except `enqueue`: see
 * `AbortedError`.
 */
export class FieldsyncError extends Error {
  constructor(message: string, options?: {
    cause?: unknown;
  });
  /** The kind of the error, the same word in the clients of all languages. */
  readonly kind: ErrorKind;
  /** Of `enqueue`: the ids of all its records. Repeat the call with them. */
  ids: string[] | null;
  /** Of `enqueue`: the ids that are known to be stored. A repetition counts them as duplicates. */
  storedIds: string[];
}

/** The daemon responded with an error. The subclasses name what the app must do. */
export class ApiError extends FieldsyncError {
  constructor(message: string, details?: FailureDetails);
  /** The HTTP status. */
  status: number | null;
  /** The code of the API, for example `invalid_record`. */
  code: string | null;
  /** Which record is wrong, starting at 1. */
  position: number | null;
  /** When the same request may succeed, in milliseconds. */
  retryAfterMs: number | null;
}

/** The request is wrong: correct it. Nothing of the request at `position` was stored. */
export class InvalidRequestError extends ApiError {
  readonly kind: 'invalid_request';
}

/** The call is for admins, or the record is another user's. */
export class NotPermittedError extends ApiError {
  readonly kind: 'not_permitted';
}

/** The id is wrong, or the entry of the record is gone. */
export class NoSuchRecordError extends ApiError {
  readonly kind: 'no_such_record';
}

/** The id is known with other content, or the state of the record does not allow the call. */
export class ConflictError extends ApiError {
  readonly kind: 'conflict';
}

/** The cursor is too old: take a new one with `changes('now')`, then look the open records up. */
export class CursorExpiredError extends ApiError {
  readonly kind: 'cursor_expired';
}

/** The daemon is stopping, busy, or its disk has errors: repeat the call later. */
export class UnavailableError extends ApiError {
  readonly kind: 'unavailable';
}

/** The queue or the disk is full: keep the records, and repeat the call after `retryAfterMs`. */
export class QueueFullError extends ApiError {
  readonly kind: 'queue_full';
}

/** There is no daemon at the socket, or the connection was lost before the response. */
export class ConnectionFailedError extends FieldsyncError {
  readonly kind: 'connection_failed';
  constructor(message: string, options?: {
    cause?: unknown;
    code?: string | null;
    connected?: boolean;
  });
  /** The code of the system, for example `ENOENT`. */
  code: string | null;
  /** Whether the request may have reached the daemon. */
  connected: boolean;
}

/** The time limit is over. The outcome may be unknown: `ids` are those to repeat the call with. */
export class TimeLimitError extends FieldsyncError {
  readonly kind: 'time_limit';
  /** Of `wait`: the last entry that was read. */
  entry: RecordEntry | null;
}

/** The signal of an `enqueue` has aborted it; `cause` is the reason. The outcome may be unknown: repeat it with `ids`. */
export class AbortedError extends FieldsyncError {
  readonly kind: 'cancelled';
}

/** The response is not HTTP or JSON, or it is too large. */
export class ProtocolError extends FieldsyncError {
  readonly kind: 'protocol';
}

/** A client of the daemon. It holds no connection and no timer between calls, and any number of calls may run at once. */
export class Client {
  /**
   * @param [options] `socket`: the default is `$FIELDSYNC_SOCKET`, or
   *   else `/run/fieldsync/fieldsync.sock`. `maxResponseBytes`: larger responses are a `ProtocolError`; 32 MiB.
   */
  constructor(options?: {
    socket?: string;
    maxResponseBytes?: number;
  });
  /**
   * Hands records over to the daemon. It resolves once they are on disk; then the app may forget their payloads.
   *
   * Attempts that fail are repeated under the same ids until the time limit. More than 10,000 records or 8 MiB are
   * sent in several requests, each of which is stored whole or not at all.
   */
  enqueue(records: NewRecord | NewRecord[], options?: CallOptions): Promise<EnqueueResult>;
  /**
   * Waits until a record is in one of the states, and returns its entry; that of a synced record has the `receipt`.
   *
   * Follows the events of the daemon, also through its restarts. States other than the default ones are noticed when
   * a batch ends; a short one may be missed.
   *
   * @param [options] `states`: the default is SYNCED,
   *   QUARANTINED or DISCARDED.
   */
  wait(id: string, options?: CallOptions & {
    states?: readonly RecordState[] | null;
  }): Promise<RecordEntry>;
  /** Returns the status of the daemon. */
  status(options?: CallOptions): Promise<Status>;
  /** Returns the entry of a record. */
  record(id: string, options?: CallOptions): Promise<RecordEntry>;
  /** Returns the entries of up to 1000 records. */
  lookup(ids: readonly string[], options?: CallOptions): Promise<LookupResult>;
  /**
   * Lists the records that changed since a cursor. Process them, then store `next`. There may be more as long as `next`
   * differs from the cursor.
   *
   * @param cursor `now`, or the `next` of an earlier call.
   * @param [options] `limit`: changes a page, at most 1000.
   */
  changes(cursor: string, options?: CallOptions & {
    limit?: number;
  }): Promise<ChangesPage>;
  /**
   * Follows the events of the daemon, and reconnects after the last event when the stream ends.
   *
   * It ends when the loop over it ends, at an error that a repetition does not correct, at the time limit (the default is
   * none), and when the signal aborts. To end it from outside the loop, abort the signal.
   *
   * @param [options] `lastEventId`: the last event that was processed.
   */
  events(options?: CallOptions & {
    lastEventId?: string | null;
  }): AsyncGenerator<FieldsyncEvent, void, undefined>;
  #private;
}

export type RecordState = 'PENDING' | 'SYNCING' | 'SYNCED' | 'FAILED' | 'QUARANTINED' | 'DISCARDED';

/** A record to enqueue. */
export type NewRecord = {
  /** What kind of record it is. */
  type: string;
  /** Any JSON object. */
  payload: object;
  /** Records with the same key are sent in order. */
  key?: string;
  /** 0 to 9; 9 goes first, the default is 5. */
  priority?: number;
  /** A UUID that identifies the record forever; the client makes one if it is missing. */
  id?: string;
};

export type EnqueueResult = {
  /** Records that are new to the daemon. */
  accepted: number;
  /** Records that the daemon had already. */
  duplicates: number;
  /** The ids of all records, in their order. */
  ids: string[];
};

export type RecordError = {
  class: string;
  http_status?: number | null;
  code?: string | null;
  message: string;
  at: string;
  /** JSON Pointer to the part of the payload that is wrong. */
  field?: string | null;
};

/** What the daemon knows of a record. */
export type RecordEntry = {
  id: string;
  seq: number;
  type: string;
  key: string | null;
  priority: number;
  state: RecordState;
  /** How often it was sent and the server may have had it. */
  attempts: number;
  /** How often it was sent, at least. */
  sends: number;
  payload_bytes: number;
  /** The user (uid) who submitted it. */
  submitter: number;
  created_at: string;
  updated_at: string;
  next_attempt_at: string | null;
  batch_id: string | null;
  last_error: RecordError | null;
  /** The record that blocks it: an earlier one of its key. */
  held_by?: string | null;
  /** How many later records of its key it blocks; 1000 means 1000 or more. */
  holds?: number;
  /** The user who discarded it. */
  discarded_by?: string | null;
  /** Whether the key, the receipt and parts of the error are left out for this user. */
  redacted?: boolean;
  /** What the server said that the record became. */
  receipt?: Record<string, unknown> | null;
  waiting_for?: {
    reason: string;
    until: string | null;
    held_by: string | null;
    text: string;
    remedy?: string | null;
  } | null;
};

export type LookupResult = {
  records: RecordEntry[];
  /** Ids that the daemon does not know. */
  unknown: string[];
};

export type ChangesPage = {
  records: RecordEntry[];
  /** Ids whose entries are gone. */
  unknown?: string[];
  /** The cursor for the next call. */
  next: string;
};

/** The object of `GET /v1/status`. */
export type Status = Record<string, any>;

export type FieldsyncEvent = {
  id: string;
  /** `status`, `progress`, `batch`, `record`, `breaker`, `connectivity`, `alert` or `gap`. */
  event: string;
  data: any;
};

export type CallOptions = {
  /** How long the call may take; the default is 60,000, and none for `events`. */
  timeLimitMs?: number;
  /** Ends the call early; it then rejects with the reason of the signal, `enqueue` with an `AbortedError`. */
  signal?: AbortSignal;
};

export type FailureDetails = {
  status?: number | null;
  code?: string | null;
  position?: number | null;
  retryAfterMs?: number | null;
  cause?: unknown;
};
