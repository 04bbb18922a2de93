from __future__ import annotations

import re

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but re-exported without "as"
from hypothesis import given
from hypothesis import strategies as st

from acode_vllm.vocabulary.errors import ConfigurationError
from acode_vllm.vocabulary.model_id import model_id_mistake, parse_model_id

VALID = ["meta-llama/Llama-2-7b-hf", "openai-community/gpt2", "a/b", "_x/y_", "Org.Name/model_v1.5", "a" * 96 + "/m"]
TRICKS = [
    "-x", "--model", "--model=a/b", "-a/b", "a/-b", "../x", "..", ".", "./a", "a/..", "org/..", "a/b/c", "/", "//",
    "/a/../etc", "/..", "a/../b", "~/model", "a b/c", "a/b c", " a/b", "a/b ", "a\\b/c", "a/b\\c", "a/b\n", "a/b\x00",
    "a/b\x1b[2J", "/models/x\n", "\u202ea/b", "\u0430/b", "org/m\u00f6del", "org/", "/", "org//m", "org/m.git",
    "org/a--b",
    "org/a..b", "org/.hidden", ".org/m", "a" * 97 + "/m", "a/" + "m" * 97, "", "x" * 5000, "https://hf.co/a/b", "a/b:c",
    "datasets/a/b", "a/b;rm", "$(a)/b", "a/b\u00a0", "a/b\u2028",
]  # fmt: skip


@pytest.mark.spec("FR-026", "AC-025", "UT-007")
@pytest.mark.parametrize("text", VALID)
def test_an_id_of_the_form_org_model_name_is_a_hub_id(text: str) -> None:
    model = parse_model_id(text)
    assert (model.text, model.is_path) == (text, False)
    assert model.hub_url == f"https://huggingface.co/{text}"
    assert f"{model.organization}/{model.name}" == text


@pytest.mark.spec("FR-026", "AC-008", "AC-025", "UT-007")
@pytest.mark.parametrize("text", TRICKS)
def test_nothing_that_looks_like_an_option_or_a_path_trick_gets_through(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_model_id(text)
    assert caught.value.code == "ACODE-VLM-010"
    assert "org/model-name" in caught.value.problem.remedy
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("text", "path"), [("/models/x", "/models/x"), ("//models//x/", "/models/x"), ("/m/a b", "/m/a b")]
)
def test_an_absolute_path_is_a_local_folder(text: str, path: str) -> None:
    model = parse_model_id(text)
    assert (model.text, model.is_path, model.hub_url, model.organization) == (path, True, None, None)


@pytest.mark.spec("FR-026")
def test_gpt2_is_answered_with_a_hint_at_its_organization() -> None:
    assert "openai-community/gpt2" in (model_id_mistake("gpt2") or "")
    assert "search=llama" in (model_id_mistake("llama") or "")


@pytest.mark.parametrize("value", [None, 5, b"a/b", ["a/b"], True])
def test_what_is_not_text_is_no_model(value: object) -> None:
    with pytest.raises(ConfigurationError):
        parse_model_id(value)


@pytest.mark.spec("FR-026")
@given(st.from_regex(re.compile(r"[\w./ -]{0,6}/?[\w./ -]{0,6}", re.ASCII), fullmatch=True))
def test_the_rule_is_the_hubs_own_with_the_organization_required(text: str) -> None:
    try:
        validate_repo_id(text)
        hub_takes_it = True
    except HFValidationError:
        hub_takes_it = False
    if not text.startswith("/"):
        assert (model_id_mistake(text) is None) == (hub_takes_it and "/" in text)


@given(st.text(max_size=20))
def test_what_is_accepted_can_be_an_argument_and_a_name_of_a_folder(text: str) -> None:
    if model_id_mistake(text) is None:
        model = parse_model_id(text)
        assert model.text.isprintable()
        assert not model.text.startswith("-")
        assert ".." not in model.text.split("/")
