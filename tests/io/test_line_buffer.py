"""Bytes become lines however they are cut, and no line without end is held."""

from __future__ import annotations

import random
import time

import pytest

from acode_vllm.io.line_buffer import LineBuffer, LineTooLongError

SIZE = 256 * 1024


def test_the_lines_are_the_same_however_the_bytes_arrive() -> None:
    text = b"one\n\ntwo\r\n" + b"x" * 100 + b"\nrest"
    expected = text.split(b"\n")[:-1]
    chance = random.Random(7)
    for _ in range(200):
        buffer, lines, place = LineBuffer(100), [], 0
        while place < len(text):
            size = chance.choice([1, 2, 5, 40, 200])
            lines += buffer.feed(text[place : place + size])
            place += size
        assert lines == expected
        assert buffer.begun
        assert buffer.feed(b"\n") == [b"rest"]
        assert not buffer.begun


def test_a_line_may_be_as_long_as_allowed_and_no_longer() -> None:
    assert LineBuffer(3).feed(b"abc\n") == [b"abc"]
    for pieces in ([b"abcd"], [b"abcd\n"], [b"ab", b"cd\n"], [b"a\nb\nabcd\n"], [b"a\nabcd"]):
        buffer = LineBuffer(3)
        for piece in pieces[:-1]:
            buffer.feed(piece)
        with pytest.raises(LineTooLongError, match="3 bytes"):
            buffer.feed(pieces[-1])
        assert not buffer.begun, "nothing of it is held"


def test_nothing_is_no_line() -> None:
    buffer = LineBuffer(3)
    assert buffer.feed(b"") == []
    assert not buffer.begun


def test_a_line_that_comes_byte_by_byte_costs_no_more_than_its_bytes() -> None:
    """Were the unfinished line copied for each byte, 32 GB would be copied."""
    buffer = LineBuffer(SIZE)
    began = time.process_time()
    for _ in range(SIZE):
        buffer.feed(b"x")
    assert buffer.feed(b"\n") == [b"x" * SIZE]
    assert time.process_time() - began < 3
