"""Causes in the options and settings that vLLM was given."""

from __future__ import annotations

import re

from acode_vllm.workers.diagnosis.cause_rule import CauseRule, Weight

HELP = "vllm serve --help lists the options."

RULES: tuple[CauseRule, ...] = (
    CauseRule(
        "unknown argument",
        "ACODE-VLM-010",
        (": error: unrecognized arguments",),
        "This vLLM does not know the arguments: {what}",
        "Correct providers.vllm.extra_args. " + HELP,
        re.compile(r"error: unrecognized arguments: (?P<what>.*)"),
    ),
    CauseRule(
        "bad choice",
        "ACODE-VLM-010",
        (": invalid choice: ",),
        "vLLM refused its arguments: {what}",
        "Correct providers.vllm.extra_args or the setting.{nearest} " + HELP,
        re.compile(
            r"error: (?P<what>argument \S+: invalid choice: '(?P<given>[^']*)'.*?\(choose from (?P<choices>.*?)\)?)$"
        ),
    ),
    CauseRule(
        "bad argument",
        "ACODE-VLM-010",
        (": error: ",),
        "vLLM refused its arguments: {what}",
        "Correct providers.vllm.extra_args or the setting. " + HELP,
        re.compile(r"^(?:usage: )?[\w.-]+(?: \w+)?: error: (?P<what>.*)"),
    ),
    CauseRule(
        "unknown parser",
        "ACODE-VLM-010",
        ("(chose from {", "(choose from {"),
        "This vLLM has no {what} called {given}. It has: {choices}.",
        "Correct --tool-call-parser or --reasoning-parser in providers.vllm.extra_args.{nearest}",
        re.compile(
            r"[Ii]nvalid (?P<what>[\w ]*parser):? '?(?P<given>[\w.+-]+)'? \(cho+se from \{ ?(?P<choices>[^}]*?) ?\}"
        ),
    ),
    CauseRule(
        "unknown reasoning parser",
        "ACODE-VLM-010",
        ("Available parsers: ",),
        "This vLLM has no parser called {given}. It has: {choices}.",
        "Correct --tool-call-parser or --reasoning-parser in providers.vllm.extra_args.{nearest}",
        re.compile(r"[Pp]arser '(?P<given>[^']+)' not found\. Available parsers: (?P<choices>[^\"]*)"),
    ),
    CauseRule(
        "option needs another",
        "ACODE-VLM-010",
        (" requires --", " requires `--"),
        "vLLM refused its options: {what}",
        "Add the option that is missing to providers.vllm.extra_args, or remove the one that needs it.",
        re.compile(r"(?:Error|Exception): (?:Error: )?(?P<what>.*requires `?--.*)"),
    ),
    CauseRule(
        "batch smaller than the context",
        "ACODE-VLM-010",
        ("max_num_batched_tokens",),
        "vLLM refused the batch size: {line}",
        "Raise --max-num-batched-tokens, or lower providers.vllm.max_model_len.",
        re.compile(r"max_num_batched_tokens.*(?:smaller|less|must be)"),
    ),
    CauseRule(
        "configuration refused",
        "ACODE-VLM-010",
        ("validation error",),
        "vLLM refused its configuration: {more}",
        "Correct the setting that it names.",
        re.compile(r"\d+ validation errors? for \w+"),
        Weight.VAGUE,
    ),
)
