"""The dataclasses of the workers behave as the standard library's do, and cost less."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acode_vllm.workers import lean_dataclass
from acode_vllm.workers.messages import LaunchPlan

STANDARD: Callable[..., Any] = dataclasses.dataclass
LEAN: Callable[..., Any] = lean_dataclass.dataclass


def classes(decorator: Callable[..., Any]) -> tuple[type, ...]:
    @decorator(frozen=True)
    class Empty:
        pass

    @decorator(frozen=True)
    class One:
        value: float

    @decorator(frozen=True)
    class Several(One):
        name: str = "a"
        secret: str = dataclasses.field(default="hidden", repr=False)
        count: int = dataclasses.field(default=0, compare=False)

    @decorator(frozen=True, kw_only=True)
    class Named:
        value: float

        def __repr__(self) -> str:
            return "its own"

    return Empty, One, Several, Named


def values(decorator: Callable[..., Any]) -> list[Any]:
    empty, one, several, named = classes(decorator)
    nan = float("nan")
    made = [
        empty(),
        empty(),
        one(1.0),
        one(2.0),
        one(nan),
        one(nan),
        several(1.0),
        several(1.0, "b"),
        several(1.0, "a", "x"),
    ]
    return [*made, several(1.0, count=1), named(value=1.0), named(value=1.0)]


def test_they_compare_hash_and_show_themselves_as_the_standard_ones_do() -> None:
    standard, lean = values(STANDARD), values(LEAN)
    assert [repr(value) for value in lean] == [repr(value) for value in standard]
    assert "hidden" not in repr(lean)
    for i, (a, x) in enumerate(zip(standard, lean, strict=True)):
        for b, y in zip(standard, lean, strict=True):
            assert (a == b) is (x == y), (x, y)
            if x == y:
                assert hash(x) == hash(y)
        assert x != i
        assert x in {x}


def test_they_are_frozen_and_known_to_dataclasses() -> None:
    _, _, several, named = classes(LEAN)
    value: Any = several(1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.name = "b"
    assert dataclasses.replace(value, name="b") == several(1.0, "b")
    assert [field.name for field in dataclasses.fields(value)] == ["value", "name", "secret", "count"]
    with pytest.raises(TypeError):
        named(1.0)
    match value:
        case several(1.0, name):
            assert name == "a"


def test_one_that_is_not_frozen_is_the_standard_one() -> None:
    @LEAN
    class Mutable:
        value: int

    assert Mutable(1) == Mutable(1)  # type: ignore[call-arg]
    assert Mutable.__hash__ is None  # type: ignore[comparison-overlap]


def test_a_plan_shows_no_environment() -> None:
    assert LaunchPlan.__repr__ is lean_dataclass._repr, "else this says nothing of the shared one"
    assert "env" not in LaunchPlan._shown  # type: ignore[attr-defined]


_COST = """
import sys, tracemalloc
from {module} import dataclass
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
for _ in range(50):
    @dataclass(frozen=True)
    class Message:
        '''Something.'''
        a: int
        b: str
        c: float = 0.0
    kept = globals().setdefault("kept", [])
    kept.append(Message)
print(tracemalloc.get_traced_memory()[0] - before)
"""


def test_they_take_at_most_three_quarters_of_the_memory() -> None:
    def cost(module: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _COST.format(module=module)], stdout=subprocess.PIPE, check=True, text=True
        )
        return int(done.stdout)

    assert cost("acode_vllm.workers.lean_dataclass") <= 0.75 * cost("dataclasses")


def test_the_workers_use_them() -> None:
    standard = [
        path.name
        for path in Path(lean_dataclass.__file__).parent.glob("*.py")
        if "@dataclass(frozen=True" in (text := path.read_text())
        and "from acode_vllm.workers.lean_dataclass import dataclass" not in text
    ]
    assert standard == []
