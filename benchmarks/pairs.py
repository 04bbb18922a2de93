"""Measuring subjects by turns, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from benchmarks.figures import OURS, Figure

Samples = dict[str, list[float]]


def by_turns(subjects: Mapping[str, Callable[[], float]], rounds: int) -> Samples:
    """Take ``rounds`` samples of each subject, one of each in a round; the order turns with the rounds."""
    samples: Samples = {name: [] for name in subjects}
    names = list(subjects)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(subjects[name]())
    return samples


def seconds(action: Callable[[], object]) -> float:
    """How long ``action`` takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def ratio(samples: Samples, subject: str, base: str) -> float:
    """The median, over the rounds, of what the subject took in terms of the base of the same round."""
    return statistics.median(mine / theirs for mine, theirs in zip(samples[subject], samples[base], strict=True))


def medians(samples: Samples, factor: float = 1.0) -> dict[str, float | None]:
    """The median of each subject."""
    return {name: statistics.median(values) * factor if values else None for name, values in samples.items()}


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def against(
    row: str, what: str, samples: Samples, base: str, limit: float, *, unit: str = "ms", note: str = ""
) -> Figure:
    """The figure of a row whose aim is a ratio to one of the baselines."""
    found = ratio(samples, OURS, base)
    factor = {"s": 1.0, "ms": 1e3, "µs": 1e6}[unit]
    return Figure(row, what, medians(samples, factor), unit, f"≤ {limit:g} × {base}", found, limit, note=note)
