"""Watches one load: its log, its download and its deadline. One thread only."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.health import HealthReport, Verdict
from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.vocabulary.redaction import redact
from acode_vllm.workers.messages.model_messages import FollowLoad
from acode_vllm.workers.model.download_progress import DownloadProgress
from acode_vllm.workers.model.load_deadline import LoadDeadline
from acode_vllm.workers.model.load_stages import LoadStages
from acode_vllm.workers.vllm.log_file import LogReader, body_of

logger = logging.getLogger(__name__)

REPEAT_SECONDS = 15.0
"""Interval at which a load without progress is reported again: a log shows it every 10 to 20 s (NFR-016)."""

_HARMLESS = "Found ulimit of"
"""A warning at every start. It quotes an error and would be mistaken for the cause."""
_FETCH = "check the network and fetch the model beforehand: acode providers pull-model vllm {}"


class LoadWatch:
    """Watches one load.

    Args:
        follow: What to watch.
        now: Monotonic time.
    """

    def __init__(self, follow: FollowLoad, now: float) -> None:
        options, folder = follow.options, follow.prepared.download_folder
        self._follow = follow
        self._reader = LogReader(Path(follow.server.log_path), follow.server.log_place)
        self._stages = LoadStages()
        self._download = DownloadProgress(folder, follow.prepared.download_bytes) if folder else None
        self._deadline = LoadDeadline(options.start_timeout_seconds, options.model_load_timeout_seconds, now)
        self._shown = self._stages.current
        self._told_at = now
        self._last_lines: deque[str] = deque(maxlen=2)
        self._unreadable = False
        self._failed: HealthReport | None = None

    def check_failed(self, report: HealthReport) -> None:
        """The server answers, but fails its check."""
        self._failed = report

    def look(self, now: float) -> list[LoadProgress]:
        """The progress since the last look; without progress, the last step again every `REPEAT_SECONDS`."""
        steps: list[LoadProgress] = []
        lines = self._new_lines()
        if lines:
            self._deadline = self._deadline.first_sign(now)
            self._last_lines.extend(redact(body_of(line)) for line in lines if _HARMLESS not in line)
            self._stages.read(lines, steps.append)
        if steps:
            self._deadline = self._deadline.stepped(now)
        steps += self._downloaded(now)
        if not steps and now - self._told_at >= REPEAT_SECONDS:
            steps = [self._shown]
        if steps:
            self._shown, self._told_at = steps[-1], now
        return steps

    def overdue(self, now: float) -> Problem | None:
        """The problem, if the time limit is exceeded (FR-047, AC-040)."""
        deadline = self._deadline
        if not deadline.expired(now):
            return None
        model, log = self._follow.server.model, self._follow.server.log_path
        if deadline.alive is None:
            message = f"vLLM printed nothing within {deadline.allowed:g} s of its start."
            remedy = (
                f"Increase providers.vllm.lifecycle.start_timeout_seconds (now {deadline.allowed:g}), or see what slows"
                " it down."
            )
            return Problem("ACODE-VLM-016", message, remedy, log_path=log)
        if self._failed is not None and self._shown.stage is LoadStage.SERVING:
            return self._never_healthy(self._failed, deadline.idle(now))
        message = f"The model {model} was not loaded within {deadline.allowed:g} s"
        if deadline.stood_still >= 1.0:
            message += f", not counting {deadline.stood_still:.0f} s in which its download moved"
        message += f": {described(self._shown)}, no progress for {deadline.idle(now):.0f} s"
        if self._download is not None and self._download.lacks and self._shown.stage is not LoadStage.DOWNLOADING:
            # vLLM fetches the weights just before it loads them.
            message += f"; of its download {self._download.arrived} had arrived"
        message += "."
        remedy = f"Increase providers.vllm.lifecycle.model_load_timeout_seconds (now {deadline.allowed:g}), or "
        remedy += "use a smaller model." if self._download is None else f"{_FETCH.format(model)}."
        return Problem("ACODE-VLM-004", message, remedy, tuple(self._last_lines), log)

    def _never_healthy(self, report: HealthReport, seconds: float) -> Problem:
        failed = [part for part in report.parts if part.verdict is Verdict.UNHEALTHY]
        return Problem(
            "ACODE-VLM-018",
            f"vLLM serves {self._follow.server.model}, and did not pass its check for {seconds:.0f} s: {report.reason}",
            "See the failed check: something between acode and vLLM may answer in its place, such as a proxy.",
            tuple(f"{part.endpoint or part.part}: {part.reason} after {part.seconds:.2f} s" for part in failed),
            self._follow.server.log_path,
        )

    def _new_lines(self) -> Sequence[str]:
        try:
            return self._reader.read()
        except OSError as error:
            if not self._unreadable:
                self._unreadable = True
                logger.warning("vLLM's log cannot be read, so its loading cannot be watched: %s", error)
            return ()

    def _downloaded(self, now: float) -> list[LoadProgress]:
        if self._download is None or self._deadline.alive is None:
            return []
        try:
            progress = self._download.look()
        except OSError as error:
            logger.warning("the model cache cannot be read, so its download cannot be watched: %s", error)
            self._download = None
            return []
        if progress is None:
            return []
        self._deadline = self._deadline.download_grew(now)
        return [progress]


def described(progress: LoadProgress) -> str:
    """The progress of a load as text: "downloading the model at 43 %, 11.2 of 26.0 GB"."""
    share = "" if progress.fraction is None else f" at {progress.fraction * 100:.0f} %"
    detail = f", {progress.detail}" if progress.detail else ""
    return progress.stage.value + share + detail
