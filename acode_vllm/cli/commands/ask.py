"""``acode ask``: a prompt, and the answer of a server that is started where it does not run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

from acode_vllm.cli.commands.ask_target import AskTarget
from acode_vllm.cli.commands.session import open_session
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.provider.provider import VllmProvider, is_missing_chat_template
from acode_vllm.vocabulary.errors import RequestError


def run_ask(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run ``acode ask``; returns the exit code."""
    session = open_session(arguments, terminal)
    prompt = _prompt(arguments, terminal)
    if not prompt.strip():
        terminal.say("acode ask: error: the prompt is empty; give it as an argument or on standard input")
        return 2
    with AskTarget(session, terminal) as target, VllmProvider(target) as provider:
        last = ""
        try:
            for text in _answer(provider, prompt, arguments):
                terminal.answer(text)
                last = text or last
        except RequestError:
            if last and not last.endswith("\n"):
                terminal.print()  # the error begins a line of its own
            raise
        if not last.endswith("\n"):
            terminal.print()
    return 0


def _prompt(arguments: argparse.Namespace, terminal: Terminal) -> str:
    if arguments.prompt is not None and arguments.prompt != "-":
        # What is not UTF-8 on the command line would be no JSON.
        return os.fsencode(arguments.prompt).decode("utf-8", "replace")
    if sys.stdin is None:
        return ""
    if sys.stdin.isatty():
        terminal.say("Type the prompt; end it with Ctrl-D.")
    return sys.stdin.read()


def _answer(provider: VllmProvider, prompt: str, arguments: argparse.Namespace) -> Iterator[str]:
    """The answer's pieces: by chat, or, for a base model without a chat template, by completion."""
    settings = {"max_tokens": arguments.max_tokens, "temperature": arguments.temperature}
    given = {name: value for name, value in settings.items() if value is not None}
    messages = [{"role": "user", "content": prompt}]
    if arguments.system:
        messages.insert(0, {"role": "system", "content": arguments.system})
    try:
        with provider.stream_chat(messages, **given) as stream:
            yield from stream.text
        return
    except RequestError as error:
        if not is_missing_chat_template(error):
            raise
    text = f"{arguments.system}\n\n{prompt}" if arguments.system else prompt
    with provider.stream_completion(text, **given) as stream:
        yield from stream.text
