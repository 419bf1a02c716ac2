# SPDX-License-Identifier: Apache-2.0
"""Client of the fieldsync daemon: hand records over, and learn what became of them.

    from fieldsync import Client, Record

    client = Client()
    visit = Record("Visits", {"Subject": "Site visit"}, key="account-17")
    client.enqueue([visit])  # the record is on disk when this returns
    entry = client.wait(visit.id, time_limit=300)
    print(entry["state"], entry["receipt"])

Every record has its id before the first attempt to hand it over, and every further attempt has
the same id. So a record is stored once, whatever happens to the daemon, the application or the
device in between.

A client keeps no connection and no thread. Threads may share it; an iterator of events belongs to
one thread at a time. After `os.fork`, the child makes a client of its own.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import os
import re
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

__version__ = "0.2.0"
__all__ = [
    "ApiError",
    "CancelledError",
    "Client",
    "ConflictError",
    "ConnectionFailedError",
    "CursorExpiredError",
    "Enqueued",
    "Event",
    "FieldsyncError",
    "InvalidRequestError",
    "NoSuchRecordError",
    "NotPermittedError",
    "ProtocolError",
    "QueueFullError",
    "Record",
    "TimeLimitError",
    "UnavailableError",
    "new_id",
]

DEFAULT_SOCKET = "/run/fieldsync/fieldsync.sock"
DEFAULT_TIME_LIMIT_S = 60.0
#: The states that a record leaves only by the decision of a person.
SETTLED = frozenset({"SYNCED", "QUARANTINED", "DISCARDED"})

_REQUEST_RECORDS_MAX = 10_000
_REQUEST_BYTES_MAX = 8 << 20
_HEAD_BYTES_MAX = 64 << 10
_RESPONSE_BYTES_MAX = 32 << 20
_CHUNK_LINE_BYTES_MAX = 4 << 10
_RECEIVE_BYTES = 64 << 10

#: Without a response in this time, a request is repeated.
_ATTEMPT_S = 60.0
#: A daemon that just restarts is back soon, so the first repetition of a call comes early.
_EARLY_RETRY_S = 0.1
_RETRY_S, _RETRY_MAX_S = 1.0, 60.0
#: For responses without Retry-After.
_UNAVAILABLE_RETRY_S, _FULL_RETRY_S = 5.0, 60.0
#: The queue of connections of a socket is full for moments only.
_ACCEPT_RETRY_S = 0.02
#: The last attempt begins this long before the end of the time limit, at most half of it.
_LAST_ATTEMPT_S = 1.0
#: A socket refuses longer timeouts than 24 days.
_SOCKET_TIMEOUT_MAX_S = 1e6
#: A send to a closed connection is an error, also in an application that lets SIGPIPE end it.
_SEND_FLAGS = getattr(socket, "MSG_NOSIGNAL", 0)
_RECONNECT_S, _RECONNECT_MIN_S, _RECONNECT_MAX_S = 1.0, 0.1, 30.0

_T = TypeVar("_T")


# Errors


class FieldsyncError(Exception):
    """A call failed. The type says what the application can do.

    An error of `Client.enqueue` has the ids of all records of the call in `ids`, and of those that
    are known to be stored in `stored`. The outcome of the others may be unknown: repeat them under
    the same ids.
    """

    ids: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()


class ConnectionFailedError(FieldsyncError):
    """No daemon is at the socket, or the connection ended before the response was complete."""


class TimeLimitError(FieldsyncError):
    """The call took longer than its time limit. `__cause__` is the last failure.

    An error of `Client.wait` has the entry that was read last in `entry`.
    """

    entry: dict[str, Any] | None = None


class CancelledError(FieldsyncError):
    """`Client.cancel` ended the call. The outcome may be unknown.

    It is not the exception of `asyncio` or `concurrent.futures` with this name.
    """


class ProtocolError(FieldsyncError):
    """What arrived is not a response of the daemon, or it is too large."""


class ApiError(FieldsyncError):
    """The daemon responded with an error."""

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        position: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, code, message, position, retry_after)
        self.status = status
        self.code = code
        self.message = message
        #: The faulty record among those of the call, from 1.
        self.position = position
        #: Seconds until the same request may succeed.
        self.retry_after = retry_after

    def __str__(self) -> str:
        record = "" if self.position is None else f" (record {self.position})"
        return f"{self.code or self.status}{record}: {self.message}"


class InvalidRequestError(ApiError):
    """The request must be corrected. Repeating it does not help."""


class NotPermittedError(ApiError):
    """The call is for admins, or the record is another user's."""


class NoSuchRecordError(ApiError):
    """The id is wrong, or the entry of the record is gone."""


class ConflictError(ApiError):
    """The id is known with other content, or the state of the record does not allow the call."""


class CursorExpiredError(ApiError):
    """Take a new cursor with `changes("now")`, then look the open records up."""


class UnavailableError(ApiError):
    """The daemon cannot do it now. This passes by itself: repeat the call later."""


class QueueFullError(ApiError):
    """The queue or the disk is full. Keep the records, and repeat later under the same ids."""


_ERROR_TYPES: dict[int, type[ApiError]] = {
    403: NotPermittedError,
    408: UnavailableError,
    409: ConflictError,
    410: CursorExpiredError,
    500: UnavailableError,
    503: UnavailableError,
    507: QueueFullError,
}


def _api_error(status: int, headers: dict[str, str], body: bytes) -> ApiError:
    """Build the error of a response. One without the JSON of the daemon has no code."""
    code, message, position = None, f"the daemon responded with status {status}", None
    with contextlib.suppress(ProtocolError, KeyError, TypeError):
        error = _parse_json(body)["error"]
        code, message, position = str(error["code"]), str(error["message"]), error.get("position")
    seconds = headers.get("retry-after", "")
    retry_after = float(seconds) if re.fullmatch("[0-9]{1,9}", seconds) else None
    kind = _ERROR_TYPES.get(status, InvalidRequestError if status < 500 else ApiError)
    if status == 404 and code == "no_such_record":
        kind = NoSuchRecordError
    return kind(status, code, message, position if isinstance(position, int) else None, retry_after)


# Records and their ids


class _IdSource:
    """Makes UUIDs of version 7 (RFC 9562) that ascend, even if the clock is set back."""

    _RANDOM_BITS = 74
    #: The random bits begin small enough, and grow in steps small enough, for millions of ids in a
    #: millisecond.
    _FIRST_BITS = 73
    _STEP_BITS = 48

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = 0
        self._random = 0

    def next_id(self, milliseconds: int) -> uuid.UUID:
        with self._lock:
            if milliseconds > self._milliseconds:
                self._milliseconds, self._random = milliseconds, secrets.randbits(self._FIRST_BITS)
            else:
                self._random += 1 + secrets.randbits(self._STEP_BITS)
                if self._random >> self._RANDOM_BITS:
                    self._milliseconds, self._random = (
                        self._milliseconds + 1,
                        secrets.randbits(self._FIRST_BITS),
                    )
            head, tail = self._random >> 62, self._random & ((1 << 62) - 1)
            return uuid.UUID(int=self._milliseconds << 80 | 7 << 76 | head << 64 | 2 << 62 | tail)


_id_source = _IdSource()
# A child process does not have the thread that may hold the lock, and must not continue the
# sequence of its parent.
os.register_at_fork(after_in_child=_id_source.reset)


def new_id() -> str:
    """Make the id of a record: a UUID of version 7, greater than all before in this process."""
    return str(_id_source.next_id(time.time_ns() // 1_000_000))


@dataclass(frozen=True)
class Record:
    """A record to hand over. It has its id before it is handed over, so the app can keep both."""

    type: str
    payload: dict[str, Any]
    #: Records with the same key are sent in their order.
    key: str | None = None
    #: 0 to 9; 9 goes first, the default of the daemon is 5.
    priority: int | None = None
    id: str = field(default_factory=new_id)

    def to_json(self) -> bytes:
        """Encode it; fails with a `ValueError` or `TypeError` if the payload is not JSON."""
        members = {"id": self.id, "type": self.type, "key": self.key, "priority": self.priority}
        present = {name: value for name, value in members.items() if value is not None}
        text = json.dumps(
            {**present, "payload": self.payload},
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        )
        return text.encode()


@dataclass(frozen=True)
class Enqueued:
    """The records are on disk: new ones, and those that the daemon had already."""

    accepted: int
    duplicates: int
    #: In the order of the records.
    ids: tuple[str, ...]


def _end_of_request(encoded: list[bytes], begin: int, bytes_max: int) -> int:
    """Give the end of the request that begins with this record. It has at least one record."""
    end, request_bytes = begin, 1  # a bracket
    for record in encoded[begin : begin + _REQUEST_RECORDS_MAX]:
        request_bytes += len(record) + 1  # and a comma or the other bracket
        if request_bytes > bytes_max and end > begin:
            break
        end += 1
    return end


# Time


class _Cancellation:
    """Ends the calls of a client: their sockets, and their pauses.

    A signal handler may cancel in the middle of any method. So there is no `threading.Event`: the
    handler could wait forever for its lock.
    """

    def __init__(self) -> None:
        self._is_cancelled = False
        self._lock = threading.RLock()
        self._sockets: set[socket.socket] = set()
        #: It is locked until the client is cancelled.
        self._gate = threading.Lock()
        self._gate.acquire()

    def cancel(self) -> None:
        with self._lock:
            self._is_cancelled = True
            self._open_gate()
            # The garbage collector may close a generator, and so remove its socket, in between.
            for opened in self._sockets.copy():
                with contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

    def check(self) -> None:
        if self._is_cancelled:
            raise CancelledError("the client was cancelled")

    def sleep(self, seconds: float) -> None:
        if self._gate.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            self._open_gate()
        self.check()

    def _open_gate(self) -> None:
        # Another thread or a signal handler may have opened it just before.
        with contextlib.suppress(RuntimeError):
            self._gate.release()

    def add(self, opened: socket.socket) -> None:
        with self._lock:
            self._sockets.add(opened)

    def remove(self, opened: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(opened)


class _Deadline:
    """The end of a call: its time limit, or before that the cancellation of its client."""

    def __init__(self, seconds: float, cancellation: _Cancellation | None = None) -> None:
        self._at = time.monotonic() + seconds
        self._last_attempt_s = min(_LAST_ATTEMPT_S, seconds / 2)
        self.cancellation = cancellation or _Cancellation()

    def left(self) -> float:
        return self._at - time.monotonic()

    def within(self, seconds: float) -> _Deadline:
        """Give this deadline, or an earlier one."""
        return _Deadline(min(seconds, self.left()), self.cancellation)

    def socket_timeout(self) -> float:
        """Give the time that an operation on a socket may take; fails if there is none left.

        It is never endless: without a timeout, a socket would wait in `connect` for a place in the
        queue of connections, and nothing could end that.
        """
        self.cancellation.check()
        left = self.left()
        if left <= 0:
            raise TimeLimitError("the time limit of the call is over")
        return min(left, _SOCKET_TIMEOUT_MAX_S)

    def sleep(self, seconds: float) -> None:
        self.cancellation.sleep(seconds)

    def pause(self, seconds: float, cause: FieldsyncError, *, may_shorten: bool) -> None:
        """Wait for the next attempt; fails if no time is left for it."""
        left = self.left()
        if may_shorten:
            left -= self._last_attempt_s
            seconds = min(seconds, left)
        if left <= 0 or seconds > left:
            raise TimeLimitError(
                f"the time limit of the call is over; the last attempt failed: {cause}"
            ) from cause
        self.sleep(seconds)


def _is_denied(error: FieldsyncError) -> bool:
    """Whether the user may not open the socket.

    A process gets no further groups, so this stays. But the daemon sets the mode of a new socket
    just after it made it, so once is not enough to know.
    """
    return isinstance(error.__cause__, PermissionError)


def _retry_after(error: ApiError, default: float) -> float:
    return default if error.retry_after is None else max(error.retry_after, _EARLY_RETRY_S)


def _doubling(first: float, most: float) -> Iterator[float]:
    while True:
        yield min(first, most)
        first *= 2


def _repeat(attempt: Callable[[_Deadline], _T], deadline: _Deadline) -> _T:
    """Repeat a request until it succeeds, fails permanently, or the time is over."""
    pauses = itertools.chain([_EARLY_RETRY_S], _doubling(_RETRY_S, _RETRY_MAX_S))
    was_denied = False
    while True:
        try:
            return attempt(deadline.within(_ATTEMPT_S))
        except (ConnectionFailedError, TimeLimitError) as error:
            if _is_denied(error):
                if was_denied or deadline.left() <= _EARLY_RETRY_S:
                    raise
                was_denied = True
                deadline.sleep(_EARLY_RETRY_S)
                continue
            deadline.pause(next(pauses), error, may_shorten=True)
        except QueueFullError as error:
            seconds = _retry_after(error, _FULL_RETRY_S)
            # The reason is worth more than the time limit.
            if seconds >= deadline.left():
                raise
            deadline.sleep(seconds)
        except UnavailableError as error:
            if error.status == 500 and error.code != "store_failed":
                raise
            deadline.pause(_retry_after(error, _UNAVAILABLE_RETRY_S), error, may_shorten=False)


# HTTP


def _parse_json(body: bytes | str) -> Any:
    try:
        text = body if isinstance(body, str) else body.decode()
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the daemon sent something that is not JSON: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class _Connection:
    """A connection for one request. All of it together ends at the deadline.

    `http.client` limits the time of each read instead of all of them, accepts heads of several
    megabytes, and takes a 103 for the response.
    """

    def __init__(self, path: str, deadline: _Deadline) -> None:
        self.deadline = deadline
        self._buffer = bytearray()
        self._socket = _connect(path, deadline)
        deadline.cancellation.add(self._socket)

    def close(self) -> None:
        # First, because the number of a closed socket may be that of another one soon.
        self.deadline.cancellation.remove(self._socket)
        self._socket.close()

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        head = "\r\n".join([*lines, "", ""]).encode()
        self._socket.settimeout(self.deadline.socket_timeout())
        try:
            self._socket.sendall(head + body, _SEND_FLAGS)
        except socket.timeout as error:
            raise TimeLimitError("the daemon did not read the request in time") from error
        except OSError:
            # The daemon may have responded before it read all of the request. If not, reading
            # fails, too.
            pass

    def read_response(self) -> tuple[int, dict[str, str]]:
        """Read the head of the response: its status, and its headers by lower-case names."""
        bytes_left = _HEAD_BYTES_MAX
        while True:
            lines = self._read_head(bytes_left)
            bytes_left -= sum(len(line) + 2 for line in lines)
            matched = re.fullmatch(
                rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: .*)?", lines[0] if lines else b""
            )
            if not matched:
                raise ProtocolError("what responds at the socket does not speak HTTP")
            headers = _parse_headers(lines[1:])
            # Others are interim responses.
            if (status := int(matched[1])) >= 200:
                return status, headers

    def read_body(self, headers: dict[str, str], limit: float) -> Iterator[bytes]:
        """Yield the pieces of the body as they arrive."""
        encoding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if encoding is not None:
            if encoding.lower() != "chunked":
                raise ProtocolError(f"the response has the unknown encoding {encoding}")
            pieces = self._read_chunks()
        elif length is not None:
            if not re.fullmatch("[0-9]{1,18}", length):
                raise ProtocolError(f"the response has the impossible length {length}")
            if int(length) > limit:
                raise ProtocolError(f"the response is larger than {limit} bytes")
            pieces = self._read_exactly(int(length))
        else:
            pieces = self._read_to_end()
        for piece in pieces:
            limit -= len(piece)
            if limit < 0:
                raise ProtocolError("the response is too large")
            yield piece

    def _receive(self) -> bool:
        """Receive more bytes; false at the end of the connection."""
        self._socket.settimeout(self.deadline.socket_timeout())
        try:
            received = self._socket.recv(_RECEIVE_BYTES)
        except socket.timeout as error:
            raise TimeLimitError("the daemon did not respond in time") from error
        except OSError as error:
            raise ConnectionFailedError(
                f"the connection to the daemon was lost: {error}"
            ) from error
        finally:
            self.deadline.cancellation.check()
        self._buffer += received
        return bool(received)

    def _require_more(self) -> None:
        if not self._receive():
            raise ConnectionFailedError("the connection ended before the response was complete")

    def _take(self, most: int) -> bytes:
        taken = bytes(self._buffer[:most])
        del self._buffer[:most]
        return taken

    def _read_line(self, bytes_max: int) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0 and len(self._buffer) <= bytes_max:
            self._require_more()
        if not 0 <= end <= bytes_max:
            raise ProtocolError("the response has a line that is too long")
        return self._take(end + 1)[:-1].removesuffix(b"\r")

    def _read_head(self, bytes_max: int) -> list[bytes]:
        """Read the lines up to an empty one."""
        lines = []
        while line := self._read_line(bytes_max):
            bytes_max -= len(line)
            lines.append(line)
        return lines

    def _read_exactly(self, length: int) -> Iterator[bytes]:
        while length:
            if not self._buffer:
                self._require_more()
            piece = self._take(length)
            length -= len(piece)
            yield piece

    def _read_to_end(self) -> Iterator[bytes]:
        while self._buffer or self._receive():
            yield self._take(len(self._buffer))

    def _read_chunks(self) -> Iterator[bytes]:
        while True:
            matched = re.match(
                rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;|$)", self._read_line(_CHUNK_LINE_BYTES_MAX)
            )
            if not matched:
                raise ProtocolError("the response has a malformed chunk")
            size = int(matched[1], 16)
            if size == 0:
                self._read_head(_HEAD_BYTES_MAX)  # trailers
                return
            yield from self._read_exactly(size)
            if self._read_line(_CHUNK_LINE_BYTES_MAX):
                raise ProtocolError("the response has a malformed chunk")


def _connect(path: str, deadline: _Deadline) -> socket.socket:
    while True:
        timeout = deadline.socket_timeout()
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(timeout)
            connected.connect(path)
        except BlockingIOError:
            connected.close()
            deadline.sleep(min(_ACCEPT_RETRY_S, max(deadline.left(), 0)))
        except PermissionError as error:
            connected.close()
            raise ConnectionFailedError(
                f"{path} may not be opened; is the user a member of the group fieldsync? {error}"
            ) from error
        except OSError as error:
            connected.close()
            raise ConnectionFailedError(f"no daemon at {path}: {error}") from error
        else:
            return connected


def _parse_headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        matched = re.fullmatch(rb"([^\s:]+):[ \t]*(.*?)[ \t]*", line)
        if not matched:
            raise ProtocolError("the response has a malformed header")
        name, value = matched[1].decode("latin-1").lower(), matched[2].decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


# Events


@dataclass(frozen=True)
class Event:
    """An event of the daemon. `id` continues after it, in `Client.events`."""

    id: str
    event: str
    data: Any


class _EventParser:
    """Parses Server-Sent Events by the standard of the WHATWG, piece by piece, over connections."""

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.reconnect_s = _RECONNECT_S
        self.restart()

    def restart(self) -> None:
        """Begin a stream. What the last one had of an event is dropped."""
        self._is_first_line = True
        self._skips_line_feed = False
        self._line: list[bytes] = []
        self._bytes = 0
        self._id = self.last_event_id
        self._event = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that end in this piece of the stream."""
        if self._skips_line_feed and piece:
            piece = piece.removeprefix(b"\n")
            self._skips_line_feed = False
        self._skips_line_feed |= piece.endswith(b"\r")
        for line in piece.splitlines(keepends=True):
            self._line.append(line)
            self._bytes += len(line)
            if self._bytes > _RESPONSE_BYTES_MAX:
                raise ProtocolError("an event is too large")
            if line.endswith((b"\r", b"\n")):
                whole = b"".join(self._line).rstrip(b"\r\n")
                self._line.clear()
                if self._is_first_line:
                    self._is_first_line = False
                    whole = whole.removeprefix(b"\xef\xbb\xbf")
                if whole:
                    self._read_field(whole.decode(errors="replace"))
                elif event := self._end_event():
                    yield event

    def _read_field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and re.fullmatch("[0-9]{1,9}", value):
            self.reconnect_s = min(max(int(value) / 1000, _RECONNECT_MIN_S), _RECONNECT_MAX_S)

    def _end_event(self) -> Event | None:
        self.last_event_id = self._id
        name, data = self._event or "message", self._data
        self._event, self._data, self._bytes = "", [], 0
        return Event(self._id, name, _parse_json("\n".join(data))) if data else None


# The client


class Client:
    """The calls of the local API. Each connects by itself, and ends within its time limit."""

    def __init__(self, socket_path: str | os.PathLike[str] | None = None) -> None:
        """Use this socket, or else that of `$FIELDSYNC_SOCKET`, or else the system's."""
        self._path = os.fspath(socket_path or os.environ.get("FIELDSYNC_SOCKET") or DEFAULT_SOCKET)
        self._cancellation = _Cancellation()

    def __reduce__(self) -> tuple[type[Client], tuple[str]]:
        """Make copies, also those in other processes, clients of their own."""
        return type(self), (self._path,)

    def cancel(self) -> None:
        """End the calls of this client, and all later ones, with a `CancelledError`.

        Any thread and any signal handler may call it. A client stays cancelled: make another one.
        """
        self._cancellation.cancel()

    def enqueue(
        self, records: Iterable[Record], *, time_limit: float = DEFAULT_TIME_LIMIT_S
    ) -> Enqueued:
        """Hand records over: when this returns, they are on disk, and fieldsync will send them.

        Failures that pass by themselves are repeated under the same ids, until the time limit in
        seconds, which may be `math.inf`. More than 10,000 records or 8 MiB are several requests,
        one after the other, and smaller ones if the daemon takes less; each is stored completely
        or not at all.
        """
        deadline = self._deadline(time_limit)
        accepted, duplicates = 0, 0
        whole = list(records)
        encoded = [record.to_json() for record in whole]
        # The daemon may write them in another way.
        ids = tuple(record.id for record in whole)
        stored, bytes_max = 0, _REQUEST_BYTES_MAX
        try:
            while stored < len(whole):
                end = _end_of_request(encoded, stored, bytes_max)
                body = b"[%b]" % b",".join(encoded[stored:end])
                attempt = functools.partial(self._call, "POST", "/v1/records", body)
                try:
                    counts = _parse_enqueued(_repeat(attempt, deadline), end - stored)
                except InvalidRequestError as error:
                    if error.code != "request_too_large" or end - stored == 1:
                        raise
                    # Half of these records, if they are equally long.
                    bytes_max = (len(body) + 1) // 2
                    continue
                accepted += counts[0]
                duplicates += counts[1]
                stored = end
        except FieldsyncError as error:
            error.ids, error.stored = ids, ids[:stored]
            if isinstance(error, ApiError) and error.position is not None:
                error.position += stored
            raise
        return Enqueued(accepted, duplicates, ids)

    def wait(
        self,
        record_id: str,
        states: Collection[str] = SETTLED,
        *,
        time_limit: float = DEFAULT_TIME_LIMIT_S,
    ) -> dict[str, Any]:
        """Wait until a record is in one of these states, and return its entry.

        The entry of a synced record has the receipt of the server. Waiting costs nothing while
        nothing happens, and continues through restarts of the daemon. Other states than the default
        ones are noticed when a batch ends; a short one may be missed.
        """
        deadline = self._deadline(time_limit)
        relevant_events = {"status", "gap"}
        if not SETTLED.issuperset(states):
            relevant_events.add("batch")
        read_entry = functools.partial(self._record, record_id)
        entry: dict[str, Any] | None = None
        try:
            with contextlib.closing(self._follow(_EventParser(), deadline)) as events:
                # Each connection begins with a status, so nothing is missed between the events and
                # the entry.
                for event in events:
                    if event.event in relevant_events or _is_about(event, record_id, entry):
                        entry = _repeat(read_entry, deadline)
                        if entry.get("state") in states:
                            return entry
        except TimeLimitError as error:
            error.entry = entry
            raise
        raise AssertionError("events end with an error only")

    def status(self, *, time_limit: float = DEFAULT_TIME_LIMIT_S) -> dict[str, Any]:
        """Return the status of the daemon."""
        return self._call("GET", "/v1/status", b"", self._deadline(time_limit))

    def record(self, record_id: str, *, time_limit: float = DEFAULT_TIME_LIMIT_S) -> dict[str, Any]:
        """Return the entry of a record, with its receipt, or why it waits."""
        return self._record(record_id, self._deadline(time_limit))

    def lookup(
        self, ids: Iterable[str], *, time_limit: float = DEFAULT_TIME_LIMIT_S
    ) -> dict[str, Any]:
        """Return the entries of up to 1,000 records in `records`, and other ids in `unknown`."""
        body = json.dumps({"ids": list(ids)}).encode()
        return self._call("POST", "/v1/records/lookup", body, self._deadline(time_limit))

    def changes(
        self, cursor: str = "now", *, time_limit: float = DEFAULT_TIME_LIMIT_S
    ) -> dict[str, Any]:
        """Return the records that changed since a cursor, and the next cursor in `next`."""
        path = f"/v1/records?changed_after={quote(cursor, safe='')}"
        return self._call("GET", path, b"", self._deadline(time_limit))

    def events(
        self, last_event_id: str | None = None, *, time_limit: float = math.inf
    ) -> Generator[Event, None, None]:
        """Yield the events after this one, or from now on, until the generator is closed.

        Another thread cannot close it, but `cancel` ends it.

        A lost connection is replaced, and continues after the last event. The event `gap` says
        that events were missed.
        """
        if last_event_id and re.search("[\r\n\0]", last_event_id):
            raise ValueError("the id of an event has no line ends")
        return self._follow(_EventParser(last_event_id or ""), self._deadline(time_limit))

    def _deadline(self, time_limit: float) -> _Deadline:
        """Begin the time limit of a call."""
        if not time_limit >= 0:  # NaN, too
            raise ValueError(f"the time limit must be zero seconds or more, not {time_limit}")
        return _Deadline(time_limit, self._cancellation)

    def _record(self, record_id: str, deadline: _Deadline) -> dict[str, Any]:
        return self._call("GET", f"/v1/records/{quote(record_id, safe='')}", b"", deadline)

    def _call(self, method: str, path: str, body: bytes, deadline: _Deadline) -> dict[str, Any]:
        with contextlib.closing(_Connection(self._path, deadline)) as connection:
            connection.send(method, path, {}, body)
            status, headers = connection.read_response()
            content = b"".join(connection.read_body(headers, _RESPONSE_BYTES_MAX))
        if status >= 400:
            raise _api_error(status, headers, content)
        value = _parse_json(content)
        if status >= 300 or not isinstance(value, dict):
            raise ProtocolError(f"the daemon sent an unexpected response with status {status}")
        return value

    def _follow(self, parser: _EventParser, deadline: _Deadline) -> Generator[Event, None, None]:
        pauses = None
        was_denied = False
        while True:
            connection = None
            try:
                connection = _Connection(self._path, deadline.within(_ATTEMPT_S))
                was_denied = False
                for piece in _open_events(connection, parser, deadline):
                    for event in parser.feed(piece):
                        pauses = None
                        yield event
                cause: FieldsyncError = ConnectionFailedError("the daemon ended the events")
            except TimeLimitError as error:
                if deadline.left() <= 0:
                    raise
                cause = error
            except (ConnectionFailedError, UnavailableError) as error:
                cause = error
            finally:
                if connection:
                    connection.close()
            if _is_denied(cause):
                if was_denied or deadline.left() <= _EARLY_RETRY_S:
                    raise cause
                was_denied = True
                deadline.sleep(_EARLY_RETRY_S)
                continue
            pauses = pauses or _doubling(parser.reconnect_s, _RECONNECT_MAX_S)
            asked = cause.retry_after if isinstance(cause, UnavailableError) else None
            deadline.pause(max(next(pauses), asked or 0), cause, may_shorten=asked is None)


def _is_about(event: Event, record_id: str, entry: dict[str, Any] | None) -> bool:
    """Whether an event is about this record, whose entry may write its id in another way."""
    if event.event != "record" or not isinstance(event.data, dict):
        return False
    return event.data.get("id") in (record_id, entry and entry.get("id"))


def _open_events(
    connection: _Connection, parser: _EventParser, deadline: _Deadline
) -> Iterator[bytes]:
    """Ask for the events after the last one, and give the pieces of their stream."""
    last_seen = {"Last-Event-ID": parser.last_event_id} if parser.last_event_id else {}
    connection.send("GET", "/v1/events", last_seen, b"")
    status, headers = connection.read_response()
    if status >= 400:
        content = b"".join(connection.read_body(headers, _RESPONSE_BYTES_MAX))
        raise _api_error(status, headers, content)
    if status != 200 or not headers.get("content-type", "").startswith("text/event-stream"):
        raise ProtocolError(f"the daemon sent no events, but a response with status {status}")
    # The response came in time. Its events may come much later.
    connection.deadline = deadline
    parser.restart()
    return connection.read_body(headers, math.inf)


def _parse_enqueued(result: dict[str, Any], count: int) -> tuple[int, int]:
    """Give the numbers of accepted records and of duplicates, of so many that were sent."""
    accepted, duplicates = _read_count(result, "accepted"), _read_count(result, "duplicates")
    ids = result.get("ids")
    if accepted + duplicates != count or not isinstance(ids, list) or len(ids) != count:
        raise ProtocolError("the daemon's response to new records is about other records")
    return accepted, duplicates


def _read_count(result: dict[str, Any], name: str) -> int:
    value = result.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ProtocolError("the daemon sent an unexpected response to new records")
    return value
