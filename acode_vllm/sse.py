"""Server-sent events, as far as the OpenAI-compatible API uses them (HTML standard, section 9.2.6). A leaf."""

from __future__ import annotations

DONE = "[DONE]"
"""The data of the event that ends a stream."""


class SseParser:
    """Turns bytes as they arrive into the data of whole events; for one thread."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, received: bytes) -> list[str]:
        """Take in more bytes.

        Returns:
            The data of each event that is complete by now.
        """
        # A "\r" at the end may be half of a "\r\n": left for the next bytes.
        text = self._rest + received
        half = text.endswith(b"\r")
        lines = (text[:-1] if half else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + (b"\r" if half else b"")
        events = []
        for line in lines:
            if not line:
                if self._data:
                    events.append("\n".join(self._data))
                    self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
            # Comments (":") keep a connection alive; other fields are not used.
        return events
