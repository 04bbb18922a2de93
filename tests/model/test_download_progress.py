"""A download seen by the growth of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from acode_vllm.pull.resumable_fetch import resumable_bytes
from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.workers.model.download_progress import DownloadProgress, in_units


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    folder = tmp_path / "models--a--b" / "blobs"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.spec("NFR-016")
def test_growing_files_are_progress_in_bytes_and_as_a_share(blobs: Path) -> None:
    (blobs / "old").write_bytes(b"x" * 1000)
    download = DownloadProgress(blobs.parent, 4_000_000)
    assert download.look() is None
    (blobs / "new.incomplete").write_bytes(b"x" * 1_000_000)
    assert download.look() == LoadProgress(LoadStage.DOWNLOADING, 0.25, "1.0 of 4.0 MB", 1_000_000, 4_000_000)
    assert download.look() is None
    (blobs / "new.incomplete").rename(blobs / "new")
    assert download.look() is None
    (blobs / "next").write_bytes(b"x" * 3_000_000)
    assert download.look() == LoadProgress(LoadStage.DOWNLOADING, 1.0, "4.0 of 4.0 MB", 4_000_000, 4_000_000)


def test_what_an_earlier_try_has_left_counts_as_arrived(blobs: Path) -> None:
    (blobs / f"{'a' * 40}.incomplete").write_bytes(b"x" * 300)
    (blobs / f"{'b' * 64}.0123abcd.incomplete").write_bytes(b"x" * 50)  # of the hub's client: nobody goes on with it
    (blobs / ("c" * 64)).write_bytes(b"x" * 70)
    assert resumable_bytes(blobs) == 300
    progress = DownloadProgress(blobs.parent, 1000, resumable_bytes(blobs))
    assert progress.arrived == "0.3 of 1.0 kB"
    (blobs / f"{'a' * 40}.incomplete").write_bytes(b"x" * 1000)
    step = progress.look()
    assert step is not None
    assert step.fraction == 1.0


def test_more_than_was_announced_is_the_whole(blobs: Path) -> None:
    download = DownloadProgress(blobs.parent, 1000)
    (blobs / "new").write_bytes(b"x" * 5000)
    progress = download.look()
    assert progress is not None
    assert (progress.fraction, progress.bytes_done) == (1.0, 1000)


def test_where_nobody_said_how_much_the_bytes_alone_are_told(tmp_path: Path) -> None:
    download = DownloadProgress(tmp_path / "not-yet", None)
    blobs = tmp_path / "not-yet" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "new").write_bytes(b"x" * 5000)
    assert download.look() == LoadProgress(LoadStage.DOWNLOADING, None, "5.0 kB", 5000)


def test_bytes_are_written_for_a_person() -> None:
    assert in_units(26_000_000_000) == "26.0 GB"
    assert in_units(11_200_000_000, 26_000_000_000) == "11.2"
    assert in_units(12) == "12 bytes"
    assert in_units(300, 26_000_000_000) == "0.0"
