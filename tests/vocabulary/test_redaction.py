from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acode_vllm.vocabulary.redaction import MARK, Redactor, holds_secret, names_secret, redact, secret_values

TOKEN = "hf_" + "aB3" * 11
KEY = "sk-proj-" + "x1Y2" * 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"token {TOKEN} used", "token *** used"),
        (f"key {KEY}.", "key ***."),
        ("Authorization: Bearer abc.DEF-123", "Authorization: Bearer ***"),
        ("authorization: basic dXNlcjpwYXNz", "authorization: basic ***"),
        ("vllm serve m --api-key geheim --port 8000", "vllm serve m --api-key *** --port 8000"),
        ("--api-key=geheim", "--api-key=***"),
        ("--hf_token geheim", "--hf_token ***"),
        ("['serve', '--api-key', 'geheim']", "['serve', '--api-key', '***']"),
        ("non-default args: {'api_key': ['geheim'], 'hf_overrides': {}}", None),
        ('{"api_key": "geheim"}', '{"api_key": "***"}'),
        ("HF_TOKEN=geheim VLLM_API_KEY='geheim'", "HF_TOKEN=*** VLLM_API_KEY='***'"),
        ("https://user:geheim@host/x", "https://***@host/x"),
        ("https://host/f?X-Amz-Signature=geheim&x=1", "https://host/f?X-Amz-Signature=***&x=1"),
        ("password: geheim", "password: ***"),
    ],
)
def test_the_shape_of_a_secret_is_enough(text: str, expected: str | None) -> None:
    shown = redact(text)
    assert shown == (expected or "non-default args: {'api_key': ['***'], 'hf_overrides': {}}")


@pytest.mark.parametrize(
    "text",
    [
        "hf_overrides hf_config hf_hub_download huggingface_hub",
        "eos_token='</s>' pad_token_id=0 max_num_batched_tokens=2048 tokenizer='x/y'",
        "Set HF_TOKEN for private models; export HF_TOKEN=hf_...",
        "KV cache size: 12,345 tokens",
        "http://127.0.0.1:8000/v1/models",
        "TOKENIZERS_PARALLELISM=false",
        "task-1 disk-usage-of-something-long",
        "api_key=None",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_known_values_are_taken_out_wherever_they_are() -> None:
    redactor = Redactor(["p@ss/w'rd", "p@ss", None, "", "1"])
    assert redactor.redact("a p@ss/w'rd b p@ss c 1") == "a *** b *** c 1"
    assert redactor.redact("in an address p%40ss%2Fw%27rd") == "in an address ***"
    assert "p@ss" not in repr(redactor)


@given(st.text(alphabet="abhfsk_-=:/@?&'\" .*Bearpityokn01", max_size=60), st.text("abc01", min_size=4, max_size=8))
def test_redacting_twice_changes_nothing_more(text: str, secret: str) -> None:
    redactor = Redactor([secret])
    once = redactor.redact(f"{text}{secret}{text}")
    assert secret not in once
    assert redactor.redact(once) == once


def test_names_give_secrets_away() -> None:
    assert all(map(names_secret, ["HF_TOKEN", "VLLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "hf_token"]))
    harmless = ["TOKENIZERS_PARALLELISM", "VLLM_MAX_TOKENS", "HF_TOKEN_PATH", "KEYBOARD", "PATH", "MONKEY"]
    assert not any(map(names_secret, harmless))
    assert not holds_secret("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    assert holds_secret("OTHER", TOKEN)
    assert secret_values({"HF_TOKEN": " abc\n", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HOME": "/x"}) == ("abc",)


def test_a_line_without_a_trace_of_a_secret_costs_microseconds() -> None:
    redactor = Redactor([TOKEN])
    line = "(EngineCore pid=123) INFO 11-22 12:00:00 [core.py:1] Loading safetensors checkpoint shards: 50% Completed"
    began = time.process_time()
    for _ in range(2000):
        assert redactor.redact(line) == line
    # Generous: 3 microseconds each were measured.
    assert time.process_time() - began < 0.2
    assert redactor.redact(f"{line} {TOKEN}") == f"{line} {MARK}"
