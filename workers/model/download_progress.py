"""The progress of vLLM's own download. vLLM prints nothing about it, but the files in the cache grow."""

from __future__ import annotations

from pathlib import Path

from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.workers.model.hub_cache import arrived_bytes


class DownloadProgress:
    """Watches the cache folder of one model. One thread only.

    Args:
        repository: The model's folder in the cache; it need not exist yet.
        total: Bytes to fetch; None if unknown.
        before: How many of them an earlier try had fetched already.
    """

    def __init__(self, repository: Path, total: int | None, before: int = 0) -> None:
        self._repository = repository
        self._total = total
        self._now = arrived_bytes(repository)
        self._begin = self._now - before

    def look(self) -> LoadProgress | None:
        """The progress, if something has arrived since the last look.

        Raises:
            OSError: The cache cannot be read.
        """
        now = arrived_bytes(self._repository)
        grown, self._now = now > self._now, now
        if not grown:
            return None
        done = self._done
        if not self._total:
            return LoadProgress(LoadStage.DOWNLOADING, None, self.arrived, done)
        return LoadProgress(LoadStage.DOWNLOADING, done / self._total, self.arrived, done, self._total)

    @property
    def arrived(self) -> str:
        """What had arrived at the last look, as text: "11.2 of 26.0 GB"."""
        if not self._total:
            return in_units(self._done)
        return f"{in_units(self._done, self._total)} of {in_units(self._total)}"

    @property
    def lacks(self) -> bool:
        """Whether part of the total had not arrived at the last look."""
        return self._total is not None and self._done < self._total

    @property
    def _done(self) -> int:
        done = max(0, self._now - self._begin)
        return min(done, self._total) if self._total else done


def in_units(size: int, scale: int | None = None) -> str:
    """Bytes as text: "26.0 GB"; with ``scale`` in the unit of that number, without naming it."""
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if (scale or size) >= factor:
            return f"{size / factor:.1f}" + ("" if scale else f" {unit}")
    return f"{size}" + ("" if scale else " bytes")
