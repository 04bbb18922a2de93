"""How far a download has come: vLLM fetches by itself and says nothing, but the files in the cache grow."""

from __future__ import annotations

from pathlib import Path

from acode_vllm.loading import LoadProgress, LoadStage
from acode_vllm.workers.hub_cache import arrived_bytes


class DownloadProgress:
    """Watches the cache folder of one model. For one thread.

    Args:
        repository: The model's folder in the cache; it need not be there yet.
        total: Bytes still to be fetched at the beginning; None where nobody said.
    """

    def __init__(self, repository: Path, total: int | None) -> None:
        self._repository = repository
        self._total = total
        self._begin = self._now = arrived_bytes(repository)

    def look(self) -> LoadProgress | None:
        """The progress, where something has arrived since the last look.

        Raises:
            OSError: The cache cannot be read.
        """
        now = arrived_bytes(self._repository)
        grown, self._now = now > self._now, now
        if not grown:
            return None
        done = max(0, now - self._begin)
        if not self._total:
            return LoadProgress(LoadStage.DOWNLOADING, None, in_units(done), done)
        done = min(done, self._total)
        detail = f"{in_units(done, self._total)} of {in_units(self._total)}"
        return LoadProgress(LoadStage.DOWNLOADING, done / self._total, detail, done, self._total)


def in_units(size: int, scale: int | None = None) -> str:
    """A number of bytes for a person: "26.0 GB"; with ``scale`` without the unit, in the unit of that number."""
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if (scale or size) >= factor:
            return f"{size / factor:.1f}" + ("" if scale else f" {unit}")
    return f"{size}" + ("" if scale else " bytes")
