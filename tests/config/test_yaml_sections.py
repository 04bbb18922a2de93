from __future__ import annotations

import time

import pytest

from acode_vllm.config.yaml_sections import YamlSections, read_sections

WANTED = ("providers.vllm", "mode")


def read(text: str) -> YamlSections:
    return read_sections(text, WANTED)


def test_each_value_keeps_its_line() -> None:
    section = read(
        "x: 1\nproviders:\n  vllm:\n    port: 8001\n    env:\n      A: b\n    extra_args:\n    - --x\n    - y\n"
    )
    vllm = section.sections["providers.vllm"]
    assert vllm.value == {"port": 8001, "env": {"A": "b"}, "extra_args": ["--x", "y"]}
    assert (vllm.children["port"].line, vllm.children["env"].children["A"].line) == (4, 6)
    assert vllm.children["extra_args"].children["[1]"].line == 9


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "null\n", "other: {a: 1, a: 2}\nx: !!python/object:os.system {}\n"]
)
def test_what_belongs_to_others_is_passed_over_in_silence(text: str) -> None:
    assert read(text) == YamlSections({})


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("providers:\n  vllm:\n    port: 1\n    port: 2\n", 4, "given twice, first in line 3"),
        ("mode: {}\nx: 1\nmode: {}\n", 3, "given twice"),
        ("providers:\n  vllm:\n\tport: 1\n", 3, "not with tabs"),
        ("providers: [1\n", 2, "not valid YAML"),
        ("- 1\n", 1, "not a mapping"),
        ("providers: 3\n", 1, "not a mapping"),
        ("providers:\n  vllm:\n    model: !!python/name:os.system\n", 3, "YAML type"),
        ("providers:\n  vllm:\n    model: !mine x\n", 3, "YAML type"),
        ("providers:\n  vllm:\n    model: 2024-01-01\n", 3, "put text in quotes"),
        ("providers:\n  vllm:\n    port: !!int x\n", 3, "claims"),
        ("providers:\n  vllm:\n    stop: !!bool x\n", 3, "claims"),
        ("providers:\n  vllm:\n    env: {on: 1}\n", 3, "key that is not text (on)"),
        ("providers:\n  vllm:\n    ? [a]\n    : 1\n", 3, "key that is not text"),
        ("b: &b {port: 1}\nproviders:\n  vllm:\n    <<: *b\n", 4, "merges"),
        ("b: &b {vllm: {port: 1}}\nproviders:\n  <<: *b\n", 3, "merges"),
        ("a: *nowhere\n", 1, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("a: \x07\n", 1, "not valid YAML"),
    ],
)
def test_what_cannot_be_read_is_a_fault_with_its_line(text: str, line: int, reason: str) -> None:
    faults = read(text).faults
    assert len(faults) == 1
    assert faults[0].line == line
    assert reason in faults[0].reason


def laughs(where: str) -> str:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 7)]
    return "\n".join(levels) + f"\n{where}\n"


@pytest.mark.parametrize(
    "text",
    [
        laughs("providers: {vllm: {extra_args: *a6}}"),
        "providers:\n  vllm: &a {x: *a}\n",
        "providers: {vllm: " + "[" * 5000 + "]" * 5000 + "}",
        "[" * 100_000,
        "x: [" + "1," * 200_000 + "]",
        "providers: {vllm: {extra_args: [" + "1," * 3000 + "]}}",
    ],
    ids=["laughs", "recursion", "depth", "depth without end", "length", "length of ours"],
)
def test_a_hostile_file_is_refused_quickly(text: str) -> None:
    began = time.process_time()
    assert read(text).faults
    assert time.process_time() - began < 5


def test_an_anchor_that_explodes_in_a_section_of_others_costs_nothing() -> None:
    result = read(laughs("providers: {vllm: {port: 8001}}"))
    assert result.faults == ()
    assert result.sections["providers.vllm"].value == {"port": 8001}


def test_an_alias_of_a_value_is_that_value() -> None:
    assert read("x: &x 8001\nproviders: {vllm: {port: *x}}").sections["providers.vllm"].value == {"port": 8001}
