"""What each of them costs while nothing happens: memory, CPU and wake-ups (NFR-006, NFR-007). All rest side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

from acode_vllm import VllmLifecycleOptions
from benchmarks import baselines
from benchmarks.bench import Bench
from benchmarks.figures import OURS, Figure
from benchmarks.look_alike import devices_environ
from benchmarks.processes import is_running, proportional_mb, resident_mb, usage

ROW = "at_rest"
KEEPER = f"{OURS}'s keeper"
WITHOUT = f"{KEEPER} where no device is"


def run(bench: Bench) -> Iterator[Figure]:
    """The keeper checks health and samples 8 devices of the look-alike as often as by default."""
    seconds = bench.rounds(300, 20)
    with ExitStack() as stack:
        ours = stack.enter_context(bench.scratch())
        # The look-alike shows its devices to the keeper alone; the server knows nothing of them.
        ours.acode("providers", "start", "vllm", **devices_environ(bench.folder))
        keeper = int(ours.status()["watched_by"])
        pids = {KEEPER: keeper}
        deviceless = stack.enter_context(bench.scratch())
        deviceless.acode("providers", "start", "vllm")
        pids[WITHOUT] = int(deviceless.status()["watched_by"])
        for name, tool in (("supervisord", baselines.supervisord), ("circus", baselines.circus)):
            scratch = stack.enter_context(bench.scratch())
            pids[name] = stack.enter_context(tool(bench.baselines, scratch, listener=False)).pid
            scratch.stamps.stamp("listens")
        for name, simple in (("watcher of 40 lines", baselines.watcher), ("honcho", baselines.honcho)):
            scratch = stack.enter_context(bench.scratch())
            pids[name] = stack.enter_context(simple(bench.baselines, scratch)).pid
            scratch.stamps.stamp("listens")
        status = ours.status()
        if len((status["service"] or {})["gpus"]["devices"]) != 8:
            raise RuntimeError("the keeper does not see the look-alike's devices")
        time.sleep(2)  # what their starts left to do is not what is measured
        before = {name: usage(pid) for name, pid in pids.items()}
        time.sleep(seconds)
        ended = [name for name, pid in pids.items() if not is_running(pid)]
        if ended:
            raise RuntimeError(f"ended meanwhile: {', '.join(ended)}")
        used = {name: usage(pid) - before[name] for name, pid in pids.items()}
        rss = {name: resident_mb(pid) for name, pid in pids.items()}
        pss = {name: proportional_mb(pid) for name, pid in pids.items()}
        if ours.status()["pid"] != status["pid"]:
            raise RuntimeError("our server was restarted meanwhile: that is no rest")
    core = {name: 100 * found.cpu / seconds for name, found in used.items()}
    options = VllmLifecycleOptions()
    health, gpu = options.health_check_interval_seconds, options.gpu.sample_interval_seconds
    text = f"at rest for {seconds} s, health every {health:g} s, 8 devices every {gpu:g} s: "
    yield Figure(
        ROW,
        text + "CPU",
        dict(core),
        "% of a core",
        "≤ 0.05 % of a core",
        core[KEEPER],
        0.05,
    )
    share = used[KEEPER].wakeups / used["supervisord"].wakeups
    counts: dict[str, float | None] = {name: found.wakeups for name, found in used.items()}
    yield Figure(ROW, text + "wake-ups", counts, "", "≤ 0.2 × supervisord", share, 0.2)
    for what, sizes in (("RSS", rss), ("PSS", pss)):
        most = min(sizes["supervisord"], sizes["circus"])
        share = sizes[KEEPER] / most
        note = "some 3 MB of the keeper's are nvidia-ml-py and its imports, loaded only if there are devices"
        aim = "< supervisord and circus"
        yield Figure(ROW, f"memory at rest, {what}", dict(sizes), "MB", aim, share, 0.9999, note=note)
