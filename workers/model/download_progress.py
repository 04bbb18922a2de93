"""How far a download has come: vLLM fetches by itself and says nothing, but the files in the cache grow."""

from __future__ import annotations

from pathlib import Path

from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.workers.model.hub_cache import arrived_bytes


class DownloadProgress:
    """Watches the cache folder of one model. For one thread.

    Args:
        repository: The model's folder in the cache; it need not be there yet.
        total: Bytes still to be fetched at the beginning; None where nobody said.
        before: How many of them had arrived at an earlier try already.
    """

    def __init__(self, repository: Path, total: int | None, before: int = 0) -> None:
        self._repository = repository
        self._total = total
        self._now = arrived_bytes(repository)
        self._begin = self._now - before

    def look(self) -> LoadProgress | None:
        """The progress, where something has arrived since the last look.

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
        """What had arrived at the last look, in words: "11.2 of 26.0 GB"."""
        if not self._total:
            return in_units(self._done)
        return f"{in_units(self._done, self._total)} of {in_units(self._total)}"

    @property
    def lacks(self) -> bool:
        """Whether some of what was announced had not arrived at the last look."""
        return self._total is not None and self._done < self._total

    @property
    def _done(self) -> int:
        done = max(0, self._now - self._begin)
        return min(done, self._total) if self._total else done


def in_units(size: int, scale: int | None = None) -> str:
    """A number of bytes for a person: "26.0 GB"; with ``scale`` without the unit, in the unit of that number."""
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if (scale or size) >= factor:
            return f"{size / factor:.1f}" + ("" if scale else f" {unit}")
    return f"{size}" + ("" if scale else " bytes")
