/**
 * Lets the conformance suite drive the JavaScript client: reads one command as JSON from each line of standard input,
 * and writes one result as JSON for each. clients/conformance.md describes the commands.
 */

import { createInterface } from 'node:readline';

import { AbortedError, ApiError, Client, FieldsyncError, TimeLimitError } from '../fieldsync.mjs';

const client = new Client({ socket: process.argv[2] });
const stop = new AbortController();
process.on('SIGTERM', () => stop.abort(new AbortedError('the adapter got SIGTERM')));

/** @param {object} line */
function write(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** @param {any} command */
async function run(command) {
  const options = { timeLimitMs: command.time_limit_ms ?? undefined, signal: stop.signal };
  switch (command.do) {
    case 'enqueue':
      return client.enqueue(command.records, options);
    case 'wait':
      return { entry: await client.wait(command.id, { ...options, states: command.states }) };
    case 'status':
      return client.status(options);
    case 'record':
      return client.record(command.id, options);
    case 'lookup':
      return client.lookup(command.ids, options);
    case 'changes':
      return client.changes(command.cursor, options);
    case 'events':
      return followEvents(command, options);
    default:
      throw new Error(`unknown command: ${command.do}`);
  }
}

/**
 * @param {any} command
 * @param {import('../fieldsync.mjs').CallOptions} options
 */
async function followEvents(command, options) {
  let count = 0;
  for await (const event of client.events({ ...options, lastEventId: command.last_event_id })) {
    write({ event });
    count += event.event === command.until ? 1 : 0;
    if (count === command.count) {
      return { last_event_id: event.id };
    }
  }
  throw new Error('the events ended');
}

/** @param {any} error */
function describe(error) {
  if (!(error instanceof FieldsyncError)) {
    throw error;
  }
  const response = error instanceof ApiError ? error : { status: null, code: null, position: null };
  return {
    kind: error.kind,
    status: response.status,
    code: response.code,
    position: response.position,
    ids: error.ids,
    stored: error.storedIds,
    entry: error instanceof TimeLimitError ? error.entry : null,
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() !== '') {
    try {
      write({ ok: await run(JSON.parse(line)) });
    } catch (error) {
      write({ error: describe(error) });
    }
  }
}
