"""Server-sent events, however they are cut into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from acode_vllm.provider.event_stream import SseParser

STREAM = (
    b': keep-alive\r\n\r\ndata: {"a": 1}\n\ndata:two\ndata: lines\r\n\r\n'
    b"event: x\nid: 7\r\rdata: \xc3\xa4\n\ndata: [DONE]\n\nrest"
)
EVENTS = ['{"a": 1}', "two\nlines", "ä", "[DONE]"]


def test_events_are_complete_at_their_blank_line_and_what_is_no_data_is_passed_over() -> None:
    assert SseParser(1000).feed(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=len(STREAM)))
def test_the_cuts_between_pieces_make_no_difference(cuts: list[int]) -> None:
    parser, events, start = SseParser(1000), list[str](), 0
    for end in [*sorted(cuts), len(STREAM)]:
        events += parser.feed(STREAM[start:end])
        start = end
    assert events == EVENTS
