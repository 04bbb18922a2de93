"""What may be handed to vLLM as it is: ``command``, ``extra_args`` and ``env``.

Options that a setting of ours decides are refused here, in every spelling that vLLM's argument parser takes
(``vllm/utils/argparse_utils.py``, ``FlexibleArgumentParser``: underscores for dashes, ``--option=value``, dotted keys,
and argparse's abbreviations), for vLLM would take the last of two and we would watch the wrong server.
Secrets are refused because other users read a command line and configuration files are committed. Pure.
Imports only the leaf `acode_vllm.vocabulary.redaction`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from acode_vllm.vocabulary.redaction import API_KEY_NAME, HF_TOKEN_NAMES, holds_secret, redact

_REFUSED: dict[str, str] = {
    "--api-key": f"is a secret; set {API_KEY_NAME} in the environment",
    "--config": "would set everything else unseen; write its options out here",
    "--grpc": "would start a server that is not OpenAI-compatible",
    "--headless": "would start no server",
    "--help": "would start no server",
    "-h": "would start no server",
    "--hf-token": "is a secret; set HF_TOKEN in the environment",
    "--ssl-certfile": "would make the server speak TLS, which checks on loopback do not",
    "--ssl-keyfile": "would make the server speak TLS, which checks on loopback do not",
    "--uds": "would take the server off its port",
}
"""Option of vLLM that no setting decides → why it is not for ``extra_args``."""

_NOT_ABBREVIATIONS = frozenset({"--device"})
"""Options of older versions of vLLM that are whole although they begin like one of ours."""

_OWNED_VARIABLES: dict[str, str] = {
    **{name: f"is a secret; set {name} in the environment" for name in (*HF_TOKEN_NAMES, API_KEY_NAME)},
    "VLLM_PORT": "has another meaning to vLLM; use the setting port",
    "VLLM_MODEL": "is the setting model",
    "PYTHONSAFEPATH": "is ours: it keeps code of the current folder out of vLLM",
    "SPT_NOENV": "is ours: it keeps vLLM's processes recognisable",
}

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def argument_faults(arguments: tuple[str, ...], decided: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What is wrong with ``extra_args``: where, and why.

    Args:
        arguments: The value.
        decided: Option of vLLM, with its dashes → the setting that decides it.
    """
    refused = {**_REFUSED, **{option: f"is decided by the setting {setting}" for option, setting in decided.items()}}
    faults = [(f"[{i}]", why) for i, argument in enumerate(arguments) if (why := _argument_fault(i, argument, refused))]
    faults += [(f"[{i}]", why) for i, why in _secrets(arguments)]
    return tuple(faults)


def _argument_fault(index: int, argument: str, refused: Mapping[str, str]) -> str | None:
    if argument == "--":
        return "would turn the rest into model names"
    if not argument.startswith("-"):
        # vLLM's first positional argument is the model.
        return "is not an option; extra_args begin with one" if index == 0 else None
    option = re.split(r"[=.]", argument, maxsplit=1)[0]
    if re.search(r"\s", option):
        return "holds an option and its value; make two elements of them"
    if option.startswith("--"):
        return _long_fault("--" + option[2:].replace("_", "-"), refused)
    return _short_fault(option, refused)


def _long_fault(option: str, refused: Mapping[str, str]) -> str | None:
    if option in refused:
        return refused[option]
    if option == "--" or option in _NOT_ABBREVIATIONS:
        return None
    meant = sorted(full for full in refused if full.startswith(option))
    return f"may mean {meant[0]}, which {refused[meant[0]]}" if meant else None


def _short_fault(option: str, refused: Mapping[str, str]) -> str | None:
    if option == "-":
        return None
    # argparse takes -qawq for -q awq, and -t for -tp.
    short = {name: why for name, why in refused.items() if not name.startswith("--")}
    return next((why for name, why in short.items() if option.startswith(name) or name.startswith(option)), None)


def command_faults(command: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What is wrong with ``command``: where, and why."""
    program = command[0]
    if not program or program.startswith("-"):
        return (("[0]", "is not a program"),)
    if "/" in program and not program.startswith("/"):
        return (("[0]", "is a relative path; use an absolute one, or a name that is found on PATH"),)
    return tuple((f"[{i}]", why) for i, why in _secrets(command))


def _secrets(arguments: tuple[str, ...]) -> list[tuple[int, str]]:
    why = "holds a secret; set it in the environment (HF_TOKEN, VLLM_API_KEY)"
    clean = [redact(argument) for argument in arguments]
    found = {i for i, argument in enumerate(arguments) if clean[i] != argument}
    # `--password` and `X` are harmless apart.
    pairs = pairwise(clean)
    found |= {i + 1 for i, (first, second) in enumerate(pairs) if redact(f"{first} {second}") != f"{first} {second}"}
    return [(i, why) for i in sorted(found)]


def variable_faults(variables: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What is wrong with ``env``: where, and why."""
    checked = ((name, _variable_fault(name, value)) for name, value in variables.items())
    return tuple((f".{name}", why) for name, why in checked if why)


def _variable_fault(name: str, value: str) -> str | None:
    if not _VARIABLE.fullmatch(name):
        return "is not a valid name of a variable"
    if "\0" in value:
        return "holds a NUL character, which no variable can"
    if name in _OWNED_VARIABLES:
        return _OWNED_VARIABLES[name]
    if name.startswith("ACODE_"):
        return "is ours; vLLM does not read it"
    if name == "PYTHONPATH" and not all(folder.startswith("/") for folder in value.split(":")):
        return "holds a relative or empty folder, from which vLLM would import whatever lies there"
    return "holds a secret; set it in the environment instead" if holds_secret(name, value) else None
