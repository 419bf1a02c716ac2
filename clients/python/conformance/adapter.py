"""The adapter of the conformance suite: see clients/conformance.md."""

from __future__ import annotations

import contextlib
import json
import pathlib
import signal
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import fieldsync

KINDS: dict[type[fieldsync.FieldsyncError], str] = {
    fieldsync.InvalidRequestError: "invalid_request",
    fieldsync.NotPermittedError: "not_permitted",
    fieldsync.NoSuchRecordError: "no_such_record",
    fieldsync.ConflictError: "conflict",
    fieldsync.CursorExpiredError: "cursor_expired",
    fieldsync.UnavailableError: "unavailable",
    fieldsync.QueueFullError: "queue_full",
    fieldsync.ApiError: "api",
    fieldsync.ConnectionFailedError: "connection_failed",
    fieldsync.TimeLimitError: "time_limit",
    fieldsync.ProtocolError: "protocol",
    fieldsync.CancelledError: "cancelled",
}


def write(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def describe(error: fieldsync.FieldsyncError) -> dict[str, Any]:
    names = ("status", "code", "position", "ids", "stored", "entry")
    return {"kind": KINDS[type(error)], **{name: getattr(error, name, None) for name in names}}


def run(client: fieldsync.Client, command: dict[str, Any]) -> Any:
    do = command["do"]
    limit = {"time_limit": command["time_limit_ms"] / 1000} if "time_limit_ms" in command else {}
    if do == "enqueue":
        done = client.enqueue(
            [fieldsync.Record(**record) for record in command["records"]], **limit
        )
        return {"accepted": done.accepted, "duplicates": done.duplicates, "ids": done.ids}
    if do == "wait":
        return {
            "entry": client.wait(command["id"], command["states"] or fieldsync.SETTLED, **limit)
        }
    if do == "status":
        return client.status(**limit)
    if do == "record":
        return client.record(command["id"], **limit)
    if do == "lookup":
        return client.lookup(command["ids"], **limit)
    if do == "changes":
        return client.changes(command["cursor"], **limit)
    if do == "events":
        return {"last_event_id": follow(client, command, limit)}
    raise ValueError(f"unknown command: {do}")


def follow(client: fieldsync.Client, command: dict[str, Any], limit: dict[str, float]) -> str:
    left = command["count"]
    with contextlib.closing(client.events(command["last_event_id"], **limit)) as events:
        for event in events:
            write({"event": {"id": event.id, "event": event.event, "data": event.data}})
            left -= event.event == command["until"]
            if left == 0:
                return event.id
    raise AssertionError("events end with an error only")


def main() -> None:
    # As programs do that end quietly when nothing reads their output. The client must not end them.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    client = fieldsync.Client(*sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: client.cancel())
    for line in sys.stdin:
        try:
            write({"ok": run(client, json.loads(line))})
        except fieldsync.FieldsyncError as error:
            write({"error": describe(error)})


if __name__ == "__main__":
    main()
