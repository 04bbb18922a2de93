"""Which failed requests are sent again: the decision alone (FR-051, AC-043, AC-044).

A request is sent again where the server failed it, never where the server refused it, never once part of its answer was
delivered, and three times at the most. A leaf but for the vocabulary.
"""

from __future__ import annotations

import math
import time
from datetime import timezone
from email.utils import parsedate_to_datetime

from acode_vllm.vocabulary.states import LifecycleMode

MAX_RETRIES = 3
_PAUSES = (0.1, 0.5, 2.0)
_LONGEST_BUSY_PAUSE = 30
_OF_A_DYING_SERVER = frozenset({500, 502, 503, 504})
"""What vLLM answers while its engine dies (500, then 503), and what proxies before it say of a server that is gone.

Every other one is about the request, or about what the server can do: the same request gets the same again."""


def blames_server(status: int) -> bool:
    """Whether an HTTP status says that the server failed, so that the same request may be answered next time."""
    return status in _OF_A_DYING_SERVER


def may_retry(failures: int, mode: LifecycleMode) -> bool:
    """Whether a request that the server failed ``failures`` times is sent again.

    In external mode nobody restarts the server, so the first failure is final.
    """
    return mode is not LifecycleMode.EXTERNAL and failures <= MAX_RETRIES


def pause_before_retry(failures: int) -> float:
    """Seconds to wait before sending again.

    Where the server has died, waiting for its restart takes far longer; where it is found healthy all the same, three
    tries within milliseconds would be one.
    """
    return _PAUSES[min(failures, len(_PAUSES)) - 1]


def retry_after(header: str | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for (RFC 9110, section 10.2.3); None where it says nothing usable."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, moment.timestamp() - time.time())


def pause_while_busy(refusals: int, asked: float | None) -> float:
    """Seconds to leave a busy server alone: what it asks for, else longer each time.

    Args:
        refusals: How often it has refused this request, from 1.
        asked: What it asks for.
    """
    return asked if asked is not None else float(min(2 ** (refusals - 1), _LONGEST_BUSY_PAUSE))


class Patience:
    """The time of one request; it begins to run when it is made.

    Args:
        total: Seconds for the whole request, with the wait for a healthy server and every try; None for no bound.
        silence: Seconds that the server may be silent in a try, where there is no such bound.
    """

    def __init__(self, total: float | None, silence: float) -> None:
        self.total = total
        self._silence = silence
        self._began = time.monotonic()
        self._ends = math.inf if total is None else self._began + total

    @property
    def left(self) -> float:
        """Seconds until the whole time is over; infinite where there is no bound."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether the whole time is over."""
        return self.left <= 0.0

    def for_an_answer(self) -> float:
        """Seconds that the server may be silent in the next try; never 0, which would mean something else."""
        return self._silence if self.total is None else max(self.left, 0.001)

    @property
    def spent(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def allows(self, pause: float) -> bool:
        """Whether the request can wait for so long and be sent again, within its own time or else that of one try."""
        return self.spent + pause < (self._silence if self.total is None else self.total)

    def at_most(self, seconds: float | None) -> float | None:
        """A wait of ``seconds`` (None: for ever), shortened to what is left."""
        if self.total is None:
            return seconds
        return self.left if seconds is None else min(seconds, self.left)
