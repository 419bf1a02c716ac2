"""The parts of the client that need no daemon: python3 -m unittest discover -s tests."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import math
import pathlib
import pickle
import queue
import signal
import socket
import sys
import tempfile
import threading
import types
import unittest
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import fieldsync
from fieldsync import (
    _api_error,
    _Cancellation,
    _Connection,
    _Deadline,
    _doubling,
    _end_of_request,
    _EventParser,
    _IdSource,
    _repeat,
)


class Ids(unittest.TestCase):
    def test_they_are_of_version_7_and_have_the_time(self) -> None:
        made = _IdSource().next_id(0x0123456789AB)
        self.assertEqual((made.version, made.variant), (7, uuid.RFC_4122))
        self.assertTrue(str(made).startswith("01234567-89ab-7"))

    def test_they_ascend_whatever_the_clock_says(self) -> None:
        source = _IdSource()
        times = [5, 5, 5, 4, 0, 5, 6, 6, 7, 7]
        made = [source.next_id(time) for time in times for _ in range(1000)]
        self.assertEqual(made, sorted(set(made)))

    def test_a_millisecond_that_is_used_up_is_followed_by_the_next(self) -> None:
        source = _IdSource()
        first = source.next_id(9)
        source._random = (1 << 74) - 1
        second = source.next_id(9)
        self.assertGreater(second, first)
        self.assertEqual((second.version, second.int >> 80), (7, 10))

    def test_threads_get_different_ids(self) -> None:
        made: list[str] = []

        def make() -> None:
            made.extend([fieldsync.new_id() for _ in range(2000)])

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(set(made)), 8000)


class Records(unittest.TestCase):
    def test_only_what_is_given_is_sent(self) -> None:
        record = fieldsync.Record("Visits", {"ü": [1, None]}, id="x")
        expected = '{"id":"x","type":"Visits","payload":{"ü":[1,null]}}'
        self.assertEqual(record.to_json().decode(), expected)
        record = fieldsync.Record("Visits", {}, key="k", priority=0, id="x")
        self.assertEqual((json.loads(record.to_json())["priority"], record.key), (0, "k"))

    def test_what_is_not_json_is_an_error_before_anything_is_sent(self) -> None:
        bad: list[Any] = [{"n": float("nan")}, {"s": "\ud800"}, {"o": object()}, {"b": b""}]
        client = fieldsync.Client("/nonexistent")
        for payload in bad:
            with self.subTest(payload=payload), self.assertRaises((ValueError, TypeError)):
                client.enqueue([fieldsync.Record("Visits", payload)])

    def test_requests_are_limited_in_records_and_bytes(self) -> None:
        cases: list[tuple[list[int], int, int]] = [
            ([5], 0, 1),
            ([1] * 10_000, 0, 10_000),
            ([1] * 10_001, 0, 10_000),
            ([1] * 10_001, 10_000, 10_001),
            # With brackets and comma exactly the largest body, and one byte more.
            ([10_000, 19_997], 0, 2),
            ([10_000, 19_998], 0, 1),
            # A record that is larger goes alone.
            ([1, 40_000, 1], 0, 1),
            ([1, 40_000, 1], 1, 2),
        ]
        for sizes, begin, end in cases:
            with self.subTest(records=len(sizes), begin=begin):
                encoded = [b"x" * size for size in sizes]
                self.assertEqual(_end_of_request(encoded, begin, 30_000), end)


class Times(unittest.TestCase):
    def test_pauses_double_up_to_the_longest(self) -> None:
        pauses = list(itertools.islice(_doubling(1, 60), 8))
        self.assertEqual(pauses, [1, 2, 4, 8, 16, 32, 60, 60])

    def test_a_deadline_without_an_end(self) -> None:
        deadline = _Deadline(float("inf"))
        self.assertGreater(deadline.socket_timeout(), 24 * 3600)
        self.assertLessEqual(deadline.within(1).socket_timeout(), 1)

    def test_a_time_limit_is_a_time(self) -> None:
        client = fieldsync.Client("/nonexistent")
        for wrong in (float("nan"), -1.0, float("-inf")):
            with self.subTest(time_limit=wrong):
                for call in (client.status, client.events, client.changes):
                    with self.assertRaises(ValueError):
                        call(time_limit=wrong)
                with self.assertRaises(ValueError):
                    client.enqueue([], time_limit=wrong)
                with self.assertRaises(ValueError):
                    client.wait("x", time_limit=wrong)
        for long in (1e10, 1e300):
            with self.assertRaises(fieldsync.ConnectionFailedError):
                client.status(time_limit=long)

    def test_the_last_attempt_begins_before_the_end_of_the_time_limit(self) -> None:
        cause = fieldsync.ConnectionFailedError("gone")
        deadline = _Deadline(0.4)
        deadline.pause(60, cause, may_shorten=True)
        self.assertTrue(0 < deadline.left() <= 0.2)
        with self.assertRaises(fieldsync.TimeLimitError):
            deadline.pause(0.01, cause, may_shorten=True)
        # A pause that the daemon asked for is not shortened.
        with self.assertRaises(fieldsync.TimeLimitError):
            _Deadline(60).pause(61, cause, may_shorten=False)

    def test_a_deadline_that_is_over(self) -> None:
        cause = fieldsync.ConnectionFailedError("gone")
        with self.assertRaises(fieldsync.TimeLimitError):
            _Deadline(0).socket_timeout()
        with self.assertRaises(fieldsync.TimeLimitError) as caught:
            _Deadline(0).pause(1, cause, may_shorten=True)
        self.assertIs(caught.exception.__cause__, cause)


class Attempts(unittest.TestCase):
    def _repeat(self, causes: Sequence[OSError], time_limit: float = 60) -> int:
        """Fail with these, then succeed. Returns the number of attempts."""
        attempts = 0

        def attempt(_: _Deadline) -> int:
            nonlocal attempts
            attempts += 1
            if attempts <= len(causes):
                raise fieldsync.ConnectionFailedError("x") from causes[attempts - 1]
            return attempts

        return _repeat(attempt, _Deadline(time_limit))

    def test_a_socket_that_may_not_be_opened_is_tried_twice(self) -> None:
        denied, missing = PermissionError(13, "x"), FileNotFoundError(2, "x")
        self.assertEqual(self._repeat([denied]), 2)
        self.assertEqual(self._repeat([missing, denied]), 3)
        for causes, time_limit in (([denied, denied], 60), ([denied], 0.05)):
            with self.assertRaises(fieldsync.ConnectionFailedError):
                self._repeat(causes, time_limit)


@contextlib.contextmanager
def silent_socket(backlog: int = 16) -> Iterator[tuple[str, Callable[[], socket.socket]]]:
    """Yield the path of a socket, and what accepts the next connection. Nothing responds."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = f"{directory}/socket"
        listener.bind(path)
        listener.listen(backlog)
        with contextlib.ExitStack() as stack:
            yield path, lambda: stack.enter_context(listener.accept()[0])


def cancel_before_line(
    line: int, cancellation: _Cancellation, call: Callable[[_Cancellation], None]
) -> bool:
    """Cancel in the middle of a call, as a signal handler may. False if it has fewer lines."""
    left = line

    def trace(frame: types.FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != fieldsync.__file__:
            return None
        left -= event == "line"
        if event == "line" and left == 0:
            cancellation.cancel()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(fieldsync.CancelledError):
            call(cancellation)
    finally:
        sys.settrace(before)
    return left <= 0


class Cancelling(unittest.TestCase):
    def _calls(self, client: fieldsync.Client) -> list[Callable[[], Any]]:
        records = [fieldsync.Record("Visits", {}, id="x")]
        return [
            client.status,
            lambda: client.enqueue(records, time_limit=math.inf),
            lambda: client.wait("x", time_limit=math.inf),
            lambda: list(client.events()),
        ]

    def _start(self, call: Callable[[], Any]) -> Callable[[], fieldsync.CancelledError]:
        """Call it in a thread. Returns what gives its error."""
        caught: queue.Queue[Any] = queue.Queue()

        def run() -> None:
            try:
                caught.put(call())
            except fieldsync.FieldsyncError as error:
                caught.put(error)

        threading.Thread(target=run, daemon=True).start()

        def result() -> fieldsync.CancelledError:
            error = caught.get(timeout=20)
            self.assertIsInstance(error, fieldsync.CancelledError)
            return error  # type: ignore[no-any-return]

        return result

    def test_calls_in_other_threads_end_and_so_do_later_ones(self) -> None:
        with silent_socket() as (path, accept):
            client = fieldsync.Client(path)
            results = []
            for call in self._calls(client):
                results.append(self._start(call))
                accept()
            client.cancel()
            client.cancel()
            errors = [result() for result in results]
            self.assertEqual((errors[1].ids, errors[1].stored), (("x",), ()))
            for call in self._calls(client):
                with self.assertRaises(fieldsync.CancelledError):
                    call()
            # Other clients are as before.
            with self.assertRaises(fieldsync.TimeLimitError):
                fieldsync.Client(path).status(time_limit=0.01)

    @mock.patch.multiple(fieldsync, _EARLY_RETRY_S=3600, _RECONNECT_S=3600, _RECONNECT_MAX_S=3600)
    def test_pauses_between_attempts_end(self) -> None:
        pauses: queue.Queue[float] = queue.Queue()
        sleep = _Cancellation.sleep

        def note_pause(cancellation: _Cancellation, seconds: float) -> None:
            pauses.put(seconds)
            sleep(cancellation, seconds)

        client = fieldsync.Client("/nonexistent")
        with mock.patch.object(_Cancellation, "sleep", note_pause):
            results = [self._start(call) for call in self._calls(client)[1:]]
            self.assertEqual([pauses.get(timeout=20) for _ in results], [3600] * 3)
            client.cancel()
            for result in results:
                result()

    def test_a_call_that_finds_too_many_connections_ends(self) -> None:
        connecting = threading.Event()

        class Socket(socket.socket):
            def connect(self, address: Any) -> None:
                connecting.set()
                super().connect(address)

        with silent_socket(backlog=0) as (path, _), socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            client = fieldsync.Client(path)
            with mock.patch.object(socket, "socket", Socket):
                result = self._start(lambda: client.status(time_limit=math.inf))
                self.assertTrue(connecting.wait(timeout=20))
                client.cancel()
                result()

    def test_it_may_interrupt_itself_at_any_line(self) -> None:
        calls: dict[str, Callable[[_Cancellation], None]] = {
            "cancel": lambda cancellation: cancellation.cancel(),
            "sleep": lambda cancellation: cancellation.sleep(0),
            "add": lambda cancellation: cancellation.add(mock.Mock()),
        }
        for (name, call), was_cancelled in itertools.product(calls.items(), (False, True)):
            for line in itertools.count(1):
                cancellation = _Cancellation()
                if was_cancelled:
                    cancellation.cancel()
                with self.subTest(name=name, was_cancelled=was_cancelled, line=line):
                    is_interrupted = cancel_before_line(line, cancellation, call)
                if not is_interrupted:
                    self.assertGreater(line, 2)
                    break
                self.assertFalse(cancellation._gate.locked())
                with self.assertRaises(fieldsync.CancelledError):
                    cancellation.check()

    def test_sockets_may_be_removed_while_it_ends_them(self) -> None:
        cancellation = _Cancellation()

        class Socket(socket.socket):
            def shutdown(self, how: int) -> None:
                cancellation.remove(self)
                super().shutdown(how)

        with Socket() as first, Socket() as second:
            cancellation.add(first)
            cancellation.add(second)
            cancellation.cancel()

    def test_copies_of_a_client_are_clients_of_their_own(self) -> None:
        client = fieldsync.Client("/nonexistent")
        client.cancel()
        for made in (copy.copy(client), pickle.loads(pickle.dumps(client))):
            with self.assertRaises(fieldsync.ConnectionFailedError):
                made.status()

    def test_a_signal_handler_may_cancel(self) -> None:
        with silent_socket() as (path, accept):
            client = fieldsync.Client(path)
            before = signal.signal(signal.SIGUSR1, lambda *_: client.cancel())
            main = threading.get_ident()

            def interrupt() -> None:
                accept()
                signal.pthread_kill(main, signal.SIGUSR1)

            threading.Thread(target=interrupt).start()
            try:
                with self.assertRaises(fieldsync.CancelledError):
                    client.status(time_limit=20)
            finally:
                signal.signal(signal.SIGUSR1, before)


class Errors(unittest.TestCase):
    def test_the_type_says_what_to_do(self) -> None:
        cases: list[tuple[int, str, type[fieldsync.ApiError]]] = [
            (400, "invalid_record", fieldsync.InvalidRequestError),
            (403, "not_permitted", fieldsync.NotPermittedError),
            (404, "not_found", fieldsync.InvalidRequestError),
            (404, "no_such_record", fieldsync.NoSuchRecordError),
            (408, "request_timeout", fieldsync.UnavailableError),
            (409, "id_conflict", fieldsync.ConflictError),
            (410, "cursor_expired", fieldsync.CursorExpiredError),
            (413, "record_too_large", fieldsync.InvalidRequestError),
            (500, "store_failed", fieldsync.UnavailableError),
            (502, "strange", fieldsync.ApiError),
            (503, "busy", fieldsync.UnavailableError),
            (507, "disk_full", fieldsync.QueueFullError),
        ]
        for status, code, kind in cases:
            with self.subTest(status=status, code=code):
                body = {"error": {"code": code, "message": "m", "position": 2}}
                error = _api_error(status, {"retry-after": "5"}, json.dumps(body).encode())
                self.assertIs(type(error), kind)
                self.assertEqual((error.code, error.position, error.retry_after), (code, 2, 5))
                self.assertEqual(str(error), f"{code} (record 2): m")

    def test_a_body_of_another_shape_has_no_code(self) -> None:
        for body in [b"", b"<html>", b"[]", b"null", b'{"error": 1}', b'{"error": {"code": "x"}}']:
            with self.subTest(body=body):
                error = _api_error(400, {"retry-after": "soon"}, body)
                self.assertEqual(
                    (error.code, error.position, error.retry_after), (None, None, None)
                )


def read(response: bytes, piece_bytes: int = 1 << 20) -> tuple[int, bytes]:
    """Read a response that arrives in pieces of this size."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = f"{directory}/socket"
        listener.bind(path)
        listener.listen()
        connection = _Connection(path, _Deadline(20))
        other, _ = listener.accept()

        def send() -> None:
            with other:
                for begin in range(0, len(response), piece_bytes):
                    try:
                        other.sendall(response[begin : begin + piece_bytes])
                    except OSError:
                        return

        sender = threading.Thread(target=send)
        sender.start()
        try:
            status, headers = connection.read_response()
            return status, b"".join(connection.read_body(headers, 1000))
        finally:
            connection.close()
            sender.join()


class Responses(unittest.TestCase):
    def test_every_framing_in_pieces_of_any_size(self) -> None:
        cases = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.0 200 OK\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: chunked\r\n\r\n"
            b"1;a=b\r\n{\r\n1\r\n}\r\n0\r\nt: 1\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\na: b\r\n\r\n"
            b"HTTP/1.1 200\r\n\r\n{}",
        ]
        for response in cases:
            for size in (1, 2, 3, 1000):
                with self.subTest(response=response, size=size):
                    self.assertEqual(read(response, size), (200, b"{}"))

    def test_what_is_malformed_or_too_large(self) -> None:
        head = b"HTTP/1.1 200 OK\r\n"
        cases = [
            b"",
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            head + b"a b: c\r\n\r\n",
            head + b"content-length: -1\r\n\r\n",
            head + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}",
            head + b"content-length: 1001\r\n\r\n",
            head + b"content-length: 3\r\n\r\n{}",
            head + b"transfer-encoding: gzip\r\n\r\n",
            head + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
            head + b"transfer-encoding: chunked\r\n\r\n1\r\n{}\r\n",
            head + b"\r\n" + b"x" * 1001,
            head + b"a: " + b"x" * 70_000 + b"\r\n\r\n",
            head + b"a: b\r\n" * 20_000 + b"\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
        ]
        for response in cases:
            kinds = (fieldsync.ProtocolError, fieldsync.ConnectionFailedError)
            with self.subTest(response=response[:80]), self.assertRaises(kinds):
                read(response)


class Events(unittest.TestCase):
    def test_streams_of_the_standard(self) -> None:
        one = [("1", "record", {"n": 1})]
        cases: list[tuple[bytes, list[tuple[str, str, Any]], str]] = [
            (b'id: 1\nevent: record\ndata: {"n": 1}\n\n', one, "1"),
            (b'id: 1\r\nevent: record\r\ndata: {"n": 1}\r\n\r\n', one, "1"),
            (b'id: 1\revent: record\rdata: {"n": 1}\r\r', one, "1"),
            (b'\xef\xbb\xbf: hi\nid:1\nevent:record\ndata:{"n":\ndata:1}\n\n', one, "1"),
            (b'id: 1\nevent: record\ndata: {"n": 1}\n\nid: 2\ndata: 2\n', one, "1"),
            (b'id: 1\nevent: record\ndata: {"n": 1}\n\nid: 2\n\n', one, "2"),
            (
                b"id: 1\ndata: 1\n\nid: a\0\ndata: 2\n\n",
                [("1", "message", 1), ("1", "message", 2)],
                "1",
            ),
            (b"id: 1\ndata: 1\n\nid\ndata: 2\n\n", [("1", "message", 1), ("", "message", 2)], ""),
            ('data:  "ü"\n\n'.encode(), [("0", "message", "ü")], "0"),
        ]
        for stream, expected, last in cases:
            for size in (1, 2, 3, 1000):
                with self.subTest(stream=stream, size=size):
                    parser = _EventParser("0")
                    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
                    seen = [event for piece in pieces for event in parser.feed(piece)]
                    self.assertEqual([(e.id, e.event, e.data) for e in seen], expected)
                    self.assertEqual(parser.last_event_id, last)

    def test_an_event_that_a_lost_connection_has_not_completed_is_dropped(self) -> None:
        parser = _EventParser()
        self.assertEqual(
            list(parser.feed(b"id: 1\ndata: 1\n\nid: 2\nevent: x\ndata: 2\r")),
            [fieldsync.Event("1", "message", 1)],
        )
        parser.restart()
        self.assertEqual(list(parser.feed(b"\ndata: 3\n\n")), [fieldsync.Event("1", "message", 3)])

    def test_the_time_to_reconnect_is_kept_within_limits(self) -> None:
        cases = [
            (b"2500", 2.5),
            (b"0", 0.1),
            (b"999999", 30),
            (b"1e3", 1),
            (b"-1", 1),
            (b"9" * 99, 1),
        ]
        for text, expected in cases:
            with self.subTest(text=text):
                parser = _EventParser()
                self.assertEqual(list(parser.feed(b"retry: " + text + b"\n\n")), [])
                self.assertEqual(parser.reconnect_s, expected)

    def test_data_that_is_not_json_and_events_without_an_end(self) -> None:
        for stream in (b"data: {\n\n", b"data\n\n", b"data: " + b"x" * (33 << 20)):
            with self.subTest(stream=stream[:10]), self.assertRaises(fieldsync.ProtocolError):
                list(_EventParser().feed(stream))


if __name__ == "__main__":
    unittest.main()
