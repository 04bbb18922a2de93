"""Which degraded parts of a health check are worth a warning now: each when it appears, and then once an hour. Pure."""

from __future__ import annotations

from acode_vllm.vocabulary.health import HealthReport, Verdict

REPEAT_SECONDS = 3600.0


class Degradations:
    """Remembers what was said. For one thread."""

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}

    def news(self, report: HealthReport) -> list[str]:
        """A sentence for each part that is degraded and of which none was said within the last hour."""
        news = []
        for part in report.parts:
            said_at = self._said_at.get(part.part)
            recent = said_at is not None and report.monotonic - said_at < REPEAT_SECONDS
            if part.verdict is Verdict.DEGRADED and not recent:
                self._said_at[part.part] = report.monotonic
                news.append(f"The server works, and is degraded: {part.part}: {part.reason}")
        return news
