"""HTTP/1.1 over one connection: every form in which an answer may come, cut into pieces anyhow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acode_vllm.workers.health.http_wire import MAX_HEADERS, HttpError, HttpWire, NoAnswerError

MOST = 1000


class Pieces:
    """A connection on which these pieces arrive, one for each read; then it ends."""

    def __init__(self, *pieces: bytes) -> None:
        self.sent = b""
        self._pieces = list(pieces)

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def receive(self, most: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def exchange(*pieces: bytes) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection is kept."""
    wire = HttpWire(Pieces(*pieces), "host", MOST)
    status, body = wire.exchange("GET", "/", {}, None)
    return status, body, wire.kept


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", (200, b"abc", True)),
        (OK + b"content-length:3\r\nConnection: close\r\n\r\nabc", (200, b"abc", False)),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", (200, b"", True)),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", (200, b"abc", False)),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc", (200, b"abc", True)),
        (OK + b"\r\nto the end", (200, b"to the end", False)),
        (CHUNKED + b"3\r\nabc\r\nA;name=value\r\n0123456789\r\n0\r\n\r\n", (200, b"abc0123456789", True)),
        (CHUNKED + b"1\r\na\r\n0\r\nTrailer: x\r\n\r\n", (200, b"a", True)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"", True)),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", (200, b"a", True)),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno", (503, b"no", True)),
        (OK + b"Content-Length: 1\r\n\r\nab", (200, b"a", False)),  # whatever the rest is, it is nobody's answer
    ],
)
def test_each_form_of_an_answer_is_read_whole_or_in_single_bytes(
    answer: bytes, expected: tuple[int, bytes, bool]
) -> None:
    assert exchange(answer) == expected
    in_bytes = exchange(*(bytes([byte]) for byte in answer))
    assert in_bytes[:2] == expected[:2]


@given(st.binary(max_size=MOST), st.data())
def test_a_body_comes_through_whatever_the_chunks(body: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5)))
    parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if a < b]
    sent = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    assert exchange(CHUNKED + sent + b"0\r\n\r\n") == (200, body, True)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "BadStatusLine: SSH-2.0-OpenSSH_9.6"),
        (b"HTTP/2 200\r\n\r\n", "BadStatusLine"),
        (OK, "within the headers"),
        (OK + b"Content-Length: 10\r\n\r\nabc", "IncompleteRead: it ended after 3 bytes"),
        (OK + b"Content-Length: -1\r\n\r\n", "a Content-Length of '-1'"),
        (OK + b"Content-Length: 1001\r\n\r\n", "more than 1000 bytes"),
        (OK + b"\r\n" + bytes(1001), "more than 1000 bytes"),
        (CHUNKED + b"3E9\r\n", "more than 1000 bytes"),
        (CHUNKED + b"x\r\n", "a chunk without a size"),
        (CHUNKED + b"1\r\nabc", "longer than it says"),
        (CHUNKED + b"3\r\nabc\r\n", "IncompleteRead"),
        (CHUNKED + bytes(MAX_HEADERS + 1), "a line of more than"),
        (OK + b"x: y\r\n" * 20_000, "of headers"),
    ],
)
def test_what_is_no_proper_answer_is_refused_with_what_is_wrong(answer: bytes, reason: str) -> None:
    with pytest.raises(HttpError, match=reason):
        exchange(answer)


def test_a_connection_that_ends_without_a_byte_is_told_apart() -> None:
    with pytest.raises(NoAnswerError, match="without an answer"):
        exchange()


def test_a_request_is_sent_in_one_piece_with_its_length() -> None:
    connection = Pieces(OK + b"Content-Length: 0\r\n\r\n")
    HttpWire(connection, "[::1]:8000", MOST).exchange("POST", "/v1/x", {"A": "b"}, b"{}")
    assert connection.sent == b"POST /v1/x HTTP/1.1\r\nHost: [::1]:8000\r\nA: b\r\nContent-Length: 2\r\n\r\n{}"
