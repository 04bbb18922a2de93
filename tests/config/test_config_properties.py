"""Whatever a file, the environment or a flag says, loading ends with a configuration or a ConfigurationError."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acode_vllm.config.config import load
from acode_vllm.config.validation import options_problems
from acode_vllm.settings.table import BY_KEY, SECTION, TABLE
from acode_vllm.vocabulary.errors import ConfigurationError

NAMES = sorted({part for key in BY_KEY for part in key.split(".")} | {"prt", "x"})
KEYS = st.sampled_from(NAMES) | st.text(max_size=3)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["managed", "org/name", "http://h", "8000", "--port", "airgapped", "0.0.0.0"])
    | st.dates()
    | st.binary(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
SECTIONS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)
TEXTS = st.text(alphabet="providersvllm: \n\t-{}[]&*!<>|'\"#%@`?,\x85\u2028", max_size=80)
quietly = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "own"
    (path / ".agent").mkdir(parents=True)
    return path


def loads_or_explains(folder: Path, content: bytes, environ: dict[str, str]) -> None:
    (folder / ".agent" / "config.yml").write_bytes(content)
    evidence: tuple[str, ...] = ()
    try:
        configuration = load(environ=environ, cwd=folder, home=folder)
    except ConfigurationError as error:
        evidence = error.problem.evidence
    if not evidence:
        # What the loader lets through, the check of hand-made options lets through, too.
        assert options_problems(configuration.model, configuration.options) is None
    assert all(line.isprintable() for line in evidence)


@pytest.mark.slow
@quietly
@given(section=VALUES | SECTIONS, mode=VALUES)
def test_any_mapping(folder: Path, section: object, mode: object) -> None:
    content = yaml.safe_dump({"providers": {"vllm": section}, "mode": mode}, allow_unicode=True)
    loads_or_explains(folder, content.encode("utf-8", "surrogatepass"), {})


@quietly
@given(content=st.binary(max_size=60) | TEXTS.map(str.encode))
def test_any_bytes(folder: Path, content: bytes) -> None:
    loads_or_explains(folder, content, {})
    loads_or_explains(folder, b"providers:\n  vllm:\n    " + content, {})


@quietly
@given(setting=st.sampled_from([row for row in TABLE if row.variable]), text=st.text(max_size=12) | SCALARS.map(str))
def test_any_text_in_a_variable(folder: Path, setting: object, text: str) -> None:
    variable = getattr(setting, "variable", "")
    loads_or_explains(folder, b"", {variable: text, "HF_TOKEN": text, "VLLM_API_KEY": text})


@quietly
@given(setting=st.sampled_from(TABLE), value=VALUES)
def test_reading_a_normal_form_gives_itself(folder: Path, setting: object, value: object) -> None:
    row = next(row for row in TABLE if row is setting)
    try:
        normal = row.read(value)
    except ValueError:
        return
    assert row.read(normal) == normal
    assert row.key.startswith((SECTION, "mode."))
