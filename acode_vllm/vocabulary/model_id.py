"""What may be asked of vLLM as a model: an ID of the hub, or the absolute path of a local folder (FR-026, AC-025).

The rules are those of the hub's own client (`huggingface_hub.utils.validate_repo_id`), written out here because
importing that library costs more than everything else that a light command does; a test compares the two. Stricter in
one point: the organization is required. Nothing that passes can be mistaken for an option or lead out of a folder.
Imports only the leaves `acode_vllm.vocabulary.errors` and `acode_vllm.vocabulary.safe_text`.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.safe_text import printable

ALLOWED = "a Hugging Face model ID like org/model-name, or the absolute path of a local model folder"

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_HUB_ID = re.compile(f"{_PART}/{_PART}")
_BARE_NAME = re.compile(_PART)
_LONGEST_PATH = 4096

_MOVED = {
    "bert-base-uncased": "google-bert",
    "bloom": "bigscience",
    "distilgpt2": "distilbert",
    "gpt2": "openai-community",
    "gpt2-large": "openai-community",
    "gpt2-medium": "openai-community",
    "gpt2-xl": "openai-community",
    "roberta-base": "FacebookAI",
    "t5-base": "google-t5",
    "t5-small": "google-t5",
}
"""Old names without an organization that people still type, and the organization they live under today."""


@dataclass(frozen=True)
class ModelId:
    """A model that has a valid form; whether it exists is another question.

    Attributes:
        text: What vLLM gets as ``--model``.
        is_path: Whether it is a local folder and not an ID of the hub.
    """

    text: str
    is_path: bool

    def __str__(self) -> str:
        return self.text

    @property
    def organization(self) -> str | None:
        """The part of a hub ID before the slash; None for a path."""
        return None if self.is_path else self.text.partition("/")[0]

    @property
    def name(self) -> str:
        """The part of a hub ID after the slash, or the last folder of a path."""
        return self.text.rpartition("/")[2]

    @property
    def hub_url(self) -> str | None:
        """The model's page on the hub; None for a path."""
        return None if self.is_path else f"https://huggingface.co/{self.text}"


def parse_model_id(text: object) -> ModelId:
    """The model that ``text`` names.

    Raises:
        ConfigurationError: ACODE-VLM-010, where it has no valid form.
    """
    reason = model_id_mistake(text)
    if reason is not None:
        shown = printable(repr(text))
        raise error_for(Problem("ACODE-VLM-010", f"{shown} is no model: it {reason}.", f"Use {ALLOWED}."))
    assert isinstance(text, str)
    if text.startswith("/"):
        # As typed but for repeated and trailing slashes, which would make two names of one folder.
        return ModelId(posixpath.normpath("/" + text.lstrip("/")), is_path=True)
    return ModelId(text, is_path=False)


def model_id_mistake(text: object) -> str | None:
    """What is wrong with ``text`` as a model, to be read after "it"; None where it is valid."""
    if not isinstance(text, str):
        return "must be text"
    if not text:
        return "is empty"
    if len(text) > _LONGEST_PATH:
        return f"is too long ({len(text)} characters)"
    if not text.isprintable():
        return "holds a control character"
    if text.startswith("/"):
        return _path_mistake(text)
    if _HUB_ID.fullmatch(text):
        return _name_mistake(text)
    return _form_mistake(text)


def _path_mistake(text: str) -> str | None:
    if ".." in text.split("/"):
        return "leads through '..'; write the folder's own path"
    return "names no folder" if not text.strip("/.") else None


def _name_mistake(text: str) -> str | None:
    if "--" in text or ".." in text:
        return "holds '--' or '..', which the hub does not allow"
    return "ends with '.git', which the hub does not allow" if text.endswith(".git") else None


def _form_mistake(text: str) -> str:
    if text.startswith("-"):
        return "begins with '-' like an option"
    if text.startswith(("~", "./", "../")) or text in (".", ".."):
        return "is a relative path; a local model folder is named by its absolute path"
    if text in _MOVED:
        return f"has no organization; did you mean {_MOVED[text]}/{text}?"
    if _BARE_NAME.fullmatch(text):
        return f"has no organization; look for it at https://huggingface.co/models?search={text}"
    if text.count("/") > 1:
        return "has more than one '/'"
    if any(len(part) > 96 for part in text.split("/")):
        return "has a part of more than 96 characters"
    return "is not of the form org/model-name (letters, digits, '-', '_' and '.', each part beginning and ending with a letter, digit or '_')"  # noqa: E501 - one sentence
