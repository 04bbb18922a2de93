"""The JSON Schema of the configuration, as an editor applies it, beside the loader."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml
from doc_blocks import blocks, pages

from acode_vllm.config.settings_docs import config_json_schema, config_template
from acode_vllm.vocabulary.errors import ConfigurationError

from .conftest import World, section

VALIDATOR = jsonschema.Draft202012Validator(config_json_schema())
VALID = [
    "model: org/model-name", "model: /models/x", "port: 1024", "port: 65535", "metrics_port: null", "command: null",
    "command: vllm serve", "command: [/opt/vllm, serve]", "env: {A: b}", "env: {}", "extra_args: []",
    "extra_args: --enforce-eager",
    "lifecycle: {mode: managed}", "lifecycle: {mode: EXTERNAL}", "lifecycle: {mode: Monitored}", "lifecycle:",
    "gpu:", "",
    "lifecycle: {max_restarts_per_minute: 10, restart_delay_seconds: 2}", "lifecycle: {stop_on_exit: true}",
    "lifecycle: {engine_check_timeout_seconds: 0, engine_check_interval_seconds: null}", "dtype: float32",
    "dtype: null",
    "gpu: {memory_utilization: 0.0}", "gpu: {memory_utilization: 1}", "gpu: {device_map: [0, 1]}",
    "gpu: {device_map: ['0', 1]}", "gpu: {device_map: null}", "max_model_len: null", "quantization: awq",
]  # fmt: skip
INVALID = [
    "prt: 8001", "start_timeout_seconds: 3", "gpu: {memory: 1}", "lifecycle: {restarts: 1}",
    "port: 1023", "port: 65536", "port: true", "port: '8000'", "port: [8000]", "port:", "port: 8000.5",
    "model: 5", "model:", "model: ''", "host: ''", "host: 5", "env: [A]", "env: {A: 1}", "command: []", "command: 5",
    "extra_args: [1]", "gpu: {memory_utilization: 1.01}", "gpu: {memory_utilization: -0.1}", "gpu: [1]",
    "gpu: {memory_utilization: '0.9'}", "gpu: {memory_utilization: true}", "gpu: {tensor_parallel_size: 0}",
    "gpu: {tensor_parallel_size: 1.5}", "gpu: {device_map: []}", "gpu: {device_map: [-1]}", "gpu: {device_map: 0}",
    "gpu: {device_map: [true]}", "lifecycle: on", "lifecycle: {start_timeout_seconds: 0}", "lifecycle: {mode: auto}",
    "lifecycle: {stop_timeout_seconds: -1}", "lifecycle: {max_restarts_per_minute: 11}", "lifecycle: {mode: 1}",
    "lifecycle: {restart_delay_seconds: 1.9}", "lifecycle: {stop_on_exit: 1}", "lifecycle: {stop_on_exit: 'true'}",
    "dtype: int8", "max_model_len: 0", "served_model_name: ''", "base_url: 5",
]  # fmt: skip


def errors(text: str) -> list[str]:
    content: Any = yaml.safe_load(text)
    return [error.json_path for error in VALIDATOR.iter_errors(content)]


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(config_json_schema())


@pytest.mark.parametrize("line", VALID)
def test_what_the_loader_accepts_it_accepts(world: World, line: str) -> None:
    text = section(line)
    world.user(text)
    world.load()
    assert errors(text) == []


@pytest.mark.spec("FR-041")
@pytest.mark.parametrize("line", INVALID)
def test_what_it_refuses_the_loader_refuses_at_the_same_place(world: World, line: str) -> None:
    text = section(line)
    world.user(text)
    with pytest.raises(ConfigurationError):
        world.load()
    found = errors(text)
    assert found
    assert all(path.startswith("$.providers.vllm") for path in found)


def test_the_template_and_every_example_of_the_documentation_fit_it() -> None:
    examples = {
        f"{block.page}:{block.line}": errors(block.text)
        for page in pages()
        for block in blocks(page)
        if block.kind == "yaml" and "vllm:" in block.text
    }
    assert len(examples) > 3
    assert {where: found for where, found in examples.items() if found} == {}
    assert errors(config_template()) == []


def test_what_belongs_to_others_is_no_mistake() -> None:
    assert errors("schema_version: 1\nproject: {name: x}\ncommands: [a]\nproviders: {ollama: {port: none}}\n") == []
    assert errors("mode: {default: airgapped, airgapped_lock: true}\n") == []
    assert errors("mode: {default: LocalOnly}\n") == []
    assert errors("mode: {default: burst}\n") == ["$.mode.default"]
