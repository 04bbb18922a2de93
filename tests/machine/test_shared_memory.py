"""Only shared memory that is provably a tree's own is removed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from acode_vllm.supervisor import call, cast
from acode_vllm.workers.machine.shared_memory import FOLDER, files_used_by, remove_unused, unclaimed_since
from acode_vllm.workers.messages.process_messages import ReleaseServer, ServerServes, SharedFile, SharedMemoryUsed
from acode_vllm.workers.process import process_worker

HOLD = """
import mmap
path = {path!r}
descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(descriptor, 4096)
memory = mmap.mmap(descriptor, 4096)
os.close(descriptor)
"""


@pytest.fixture
def path():
    path = FOLDER / f"psm_{uuid.uuid4().hex[:12]}"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def looks(monkeypatch):
    """When a tree was looked at, on the monotonic clock."""
    at = []
    alive = process_worker.ProcessTree.alive
    monkeypatch.setattr(process_worker.ProcessTree, "alive", lambda tree: at.append(time.monotonic()) or alive(tree))
    return at


def hold(path):
    return HOLD.format(path=str(path))


def test_what_a_killed_tree_left_is_removed(run, script, grown, path):
    harness = run(script(hold(path) + "here('root')\nstay()"))
    harness.up()
    grown("root")
    harness.stop_server()  # it ends without cleaning up
    assert harness.down().report.shared_memory_removed == (str(path),)
    assert not path.exists()


def test_what_was_used_by_a_process_that_was_killed_is_removed_with_its_tree(run, script, grown, path, monkeypatch):
    """The engine is killed, the root notices and ends by itself: nobody who used the file is left to tell of it."""
    monkeypatch.setattr(process_worker, "FIRST_LOOK_SECONDS", 0.05)
    harness = run(
        script(f"""
        path = {str(path)!r}
        pid = os.fork()
        if pid == 0:
            import mmap
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.ftruncate(descriptor, 4096)
            memory = mmap.mmap(descriptor, 4096)
            here("engine")
            stay()
        here("root")
        os.waitpid(pid, 0)
        """)
    )
    harness.up()
    engine = grown("engine")
    deadline = time.monotonic() + 10
    while not harness.made[0]._notes.holds_memory:
        assert time.monotonic() < deadline
        os.sched_yield()
    os.kill(engine.pid, signal.SIGKILL)
    assert harness.down().report.shared_memory_removed == (str(path),)


def test_a_mapped_file_is_seen_and_one_that_is_only_open_too(child, script, grown, path, tmp_path):
    child(*script(hold(path) + "here('root')\nstay()"))
    mapped = grown("root")
    (file,) = files_used_by([mapped.pid])
    assert file == SharedFile(path.name, path.stat().st_dev, path.stat().st_ino)
    child(*script(f"keep = open({str(path)!r})\nhere('other')\nstay()"))
    assert files_used_by([grown("other").pid]) == {file}


def test_a_file_that_another_process_uses_stays(child, script, grown, path):
    holder = child(*script(hold(path) + "here('root')\nstay()"))
    files = files_used_by([grown("root").pid])
    assert remove_unused(files) == ()
    assert path.exists()
    holder.kill()
    holder.wait()
    assert remove_unused(files) == (str(path),)


def test_another_file_of_the_same_name_stays(path):
    path.write_bytes(b"another")
    found = path.stat()
    assert remove_unused([SharedFile(path.name, found.st_dev, found.st_ino + 1)]) == ()
    assert path.exists()


def test_a_file_whose_name_is_not_of_the_kind_stays(path):
    other = path.with_name("database-" + uuid.uuid4().hex)
    other.write_bytes(b"precious")
    try:
        found = other.stat()
        assert remove_unused([SharedFile(other.name, found.st_dev, found.st_ino)]) == ()
        assert other.exists()
    finally:
        other.unlink()


def test_a_link_is_not_followed(path, tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    path.symlink_to(target)
    found = os.lstat(path)
    assert remove_unused([SharedFile(path.name, found.st_dev, found.st_ino)]) == ()
    assert target.exists()


def test_a_file_that_is_gone_and_a_process_that_is_gone_are_no_trouble(path):
    assert remove_unused([SharedFile(path.name, 1, 1)]) == ()
    assert files_used_by([2**22 + 1]) == frozenset()
    assert Path(FOLDER).is_dir()


def test_while_it_loads_it_is_looked_at_less_and_less_often(run, script, grown, looks, monkeypatch):
    monkeypatch.setattr(process_worker, "FIRST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(process_worker, "LAST_LOOK_SECONDS", 0.2)
    run(script("here('root')\nstay()")).up()
    _until(lambda: len(looks) == 6)
    between = [after - before for before, after in itertools.pairwise(looks)]
    assert all(found >= wanted for found, wanted in zip(between, (0.05, 0.1, 0.2, 0.2, 0.2), strict=True)), between


def test_what_it_made_before_it_served_is_known_soon_after(run, script, grown, path, looks, monkeypatch):
    """Else a tree that is killed as a whole between two looks would leave it for ever."""
    monkeypatch.setattr(process_worker, "FIRST_LOOK_SECONDS", 1000.0)
    harness = run(script(hold(path) + "here('root')\nstay()"))
    server = harness.up().server
    root = grown("root")
    monkeypatch.setattr(process_worker, "FIRST_LOOK_SECONDS", 0.01)
    cast(harness.ref, ServerServes(replace(server, mark="another")))
    call(harness.ref, ReleaseServer(), 10)  # by now it was heard
    assert harness.made[0]._next_note.deadline - time.monotonic() > 900, "it is nothing to this server"
    cast(harness.ref, ServerServes(server))
    (file,) = harness.next(SharedMemoryUsed).files
    assert file.name == path.name
    assert len(looks) == 1
    call(harness.ref, ReleaseServer(), 10)
    assert 290 < harness.made[0]._next_note.deadline - time.monotonic() < 301
    os.kill(root.pid, signal.SIGKILL)
    assert harness.down().report.shared_memory_removed == (str(path),)


def test_when_a_member_has_ended_the_others_are_looked_at(run, script, grown, monkeypatch):
    whole = []
    alive = process_worker.ProcessTree.alive
    monkeypatch.setattr(process_worker, "FIRST_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(process_worker.ProcessTree, "alive", lambda tree: whole.append(found := alive(tree)) or found)
    harness = run(
        script("""
        if os.fork() == 0:
            here("engine")
            stay()
        here("root")
        stay()
        """)
    )
    harness.up()
    engine = grown("engine")
    _until(lambda: whole and len(whole[-1]) == 2)
    harness.made[0]._next_note.cancel()
    looks = len(whole)
    os.kill(engine.pid, signal.SIGKILL)
    _until(lambda: len(whole) == looks + 1)
    assert len(whole[-1]) == 1


def _until(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_what_a_tree_left_that_nobody_looked_at_is_known_by_its_owner_its_kind_and_its_age(path, child):
    before = time.time() - 1
    path.write_bytes(b"x")
    later = time.time() + 60
    made = path.stat()
    file = SharedFile(path.name, made.st_dev, made.st_ino)
    assert file in unclaimed_since(before, now=later)
    assert file not in unclaimed_since(before), "it may be about to be mapped"
    assert file not in unclaimed_since(later, now=later + 60), "it is older than the tree"
    assert file not in unclaimed_since(before, Path("/nonexistent"), now=later)
    user = child(sys.executable, "-c", f"file = open({str(path)!r}); print('open', flush=True); input()",
                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert user.stdout.readline() == b"open\n"
    assert file not in unclaimed_since(before, now=later), "somebody uses it"
    stranger = path.with_name(f"stranger-{path.name}")
    stranger.write_bytes(b"x")
    try:
        assert stranger.name not in {found.name for found in unclaimed_since(before, now=later)}
    finally:
        stranger.unlink()
