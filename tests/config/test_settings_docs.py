from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from doc_blocks import pages

from acode_vllm.config.configuration import Source
from acode_vllm.config.settings_docs import config_json_schema, config_template, plain_value, settings_table_markdown
from acode_vllm.settings.table import TABLE, option_value
from acode_vllm.vocabulary.options import VllmLifecycleOptions

from .conftest import World

ROOT = Path(__file__).resolve().parents[2]


def test_the_template_with_every_setting_switched_on_is_the_default_configuration(world: World) -> None:
    text = config_template()
    lines = [re.sub(r"^( *)#(?=[a-z_]+:)|^#(?=  [a-z_]+:)", r"\1", line) for line in text.splitlines()]
    world.user("\n".join(lines))
    configuration = world.load()
    assert configuration.options == VllmLifecycleOptions()
    assert {origin.source for origin in configuration.origins.values()} == {Source.FILE}


def test_the_table_names_every_setting_variable_and_flag_once() -> None:
    rows = settings_table_markdown().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [setting.key for setting in TABLE]
    for row, setting in zip(rows, TABLE, strict=True):
        assert setting.variable is None or f"`{setting.variable}`" in row
        assert setting.flag is None or f"`{setting.flag}`" in row
        assert row.count(" | ") == 5
    variables = [setting.variable for setting in TABLE if setting.variable]
    assert len(set(variables)) == len(variables)


def test_every_option_has_a_row() -> None:
    paths = {setting.option for setting in TABLE if setting.option}
    options = VllmLifecycleOptions()
    top = {name for name in vars(options) if name not in ("gpu", "logs", "server")}
    below = {f"gpu.{name}" for name in vars(options.gpu)} | {f"server.{name}" for name in vars(options.server)}
    below |= {f"logs.{name}" for name in vars(options.logs)}
    assert paths == top | below
    assert all(option_value(options, setting) == setting.default for setting in TABLE if setting.option)


def test_the_schema_has_every_key_and_refuses_unknown_ones_in_our_section() -> None:
    schema = config_json_schema()
    json.dumps(schema, allow_nan=False)
    vllm = schema["properties"]["providers"]["properties"]["vllm"]
    assert vllm["additionalProperties"] is False
    assert vllm["properties"]["gpu"]["additionalProperties"] is False
    assert "additionalProperties" not in schema["properties"]["providers"]
    for setting in TABLE:
        place = schema
        for name in setting.key.split("."):
            place = place["properties"][name]
        assert place["default"] == plain_value(setting.default)
        assert place["description"].endswith(".")
    assert schema["properties"]["mode"]["properties"]["default"]["anyOf"][0]["enum"] == ["local-only", "airgapped"]


def test_the_template_is_yaml_as_it_stands() -> None:
    assert yaml.safe_load(config_template())["providers"]["vllm"]["model"] == "meta-llama/Llama-2-7b-hf"


def test_every_setting_that_a_message_or_a_page_names_is_one_that_a_file_may_hold() -> None:
    keys = {setting.key for setting in TABLE}
    known = keys | {key.rpartition(".")[0] for key in keys}
    sources = [path for folder in ("workers", "acode_vllm") for path in sorted((ROOT / folder).rglob("*.py"))]
    wrong = [
        f"{path.name}: {named}"
        for path in (*sources, *(page for page in pages() if page.name != "terminal.md"))  # which shows mistakes
        for named in re.findall(r"\bproviders\.vllm\.[a-z_]+(?:\.[a-z_]+)*", path.read_text(encoding="utf-8"))
        if named not in known
    ]
    assert wrong == []
