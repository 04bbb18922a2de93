"""Which versions of vLLM are refused, which warned of."""

from __future__ import annotations

import pytest

from acode_vllm.workers.vllm.version import release_of, too_old, unsupported


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("0.32.0", (0, 32, 0)),
        ("0.32.0+cu129", (0, 32, 0)),
        ("0.11.1rc2.dev5+gabc", (0, 11, 1)),
        ("0.5.3.post1", (0, 5, 3)),
        ("1.0", (1, 0, 0)),
        ("0.1.dev1+g1234567", None),
        ("dev", None),
        ("", None),
    ],
)
def test_the_release_is_read_from_any_form_of_version(version: str, release: tuple[int, int, int] | None) -> None:
    assert release_of(version) == release


@pytest.mark.spec("NFR-017")
@pytest.mark.parametrize(
    ("version", "refused", "warned"),
    [
        ("0.3.3", True, False),
        ("0.4.0", False, True),
        ("0.11.2", False, True),
        ("0.12.0", False, False),
        ("0.32.0+cpu", False, False),
        ("2.0.0", False, False),
        ("0.1.dev1+g1234567", False, False),
    ],
)
def test_versions_before_0_4_are_refused_and_those_older_than_a_year_warned_of(
    version: str, refused: bool, warned: bool
) -> None:
    assert (too_old(version, "vllm") is not None) is refused
    assert bool(unsupported(version)) is warned
