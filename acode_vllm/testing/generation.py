"""What the stand-in answers: predictable text in vLLM's JSON, and vLLM's words for what is wrong with a request.

A chat is answered with ``I am NAME. You said: …``, a completion with ``… and so on``; one token is one word. A prompt
that holds ``[compute:3]`` makes the engine compute for 3 s before its first token.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any

FINGERPRINT = "vllm-0.32.0-standin"
MAX_MODEL_LEN = 2048
ENGINE_DIED = "EngineCore encountered an issue. See stack trace (above) for the root cause."


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """An error answer."""

    def __init__(self, status: int, message: str, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": status}}


@dataclass(frozen=True)
class Wanted:
    """A generation that can be answered."""

    chat: bool
    model: str
    prompt_tokens: int
    tokens: list[str]
    finish: str
    compute: float
    stream: bool
    include_usage: bool
    tool: str | None


def bad_request(message: str, param: str | None = None) -> Refusal:
    """A 400 as vLLM words it."""
    return Refusal(400, message, "BadRequestError", param)


def read_generation(chat: bool, body: dict[str, Any], name: str, chat_template: bool) -> Wanted:
    """Understand a request.

    Raises:
        Refusal: It cannot be answered.
    """
    if body.get("model", name) != name:
        message = f"The model `{body['model']}` does not exist. Valid aliases: {name}."
        raise Refusal(404, message, "NotFoundError", "model")
    if chat:
        messages = body.get("messages")
        if not isinstance(messages, list):
            raise bad_request("1 validation error:\n  {'type': 'list_type', 'loc': 'body.messages'}", "body.messages")
        if not chat_template:
            raise bad_request(
                "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat"
                " template if the tokenizer does not define one."
            )
        prompt = str(messages[-1].get("content", "")) if messages else ""
        words = f"I am {name}. You said: {prompt}".split(" ")
    else:
        if not body.get("prompt"):
            raise bad_request(
                "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)", "prompt"
            )
        prompt = str(body["prompt"])
        words = f"{prompt} and so on".split(" ")
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is None:
        limit = MAX_MODEL_LEN - 1 if chat else 16
    if limit < 1:
        raise bad_request(
            f"max_tokens must be at least 1, got {limit}. (parameter=max_tokens, value={limit})", "max_tokens"
        )
    if limit > MAX_MODEL_LEN:
        raise bad_request(
            f"max_tokens={limit} cannot be greater than max_model_len={MAX_MODEL_LEN}. Please request fewer output"
            f" tokens. (parameter=max_tokens, value={limit})",
            "max_tokens",
        )
    tool = _tool(body)
    if isinstance(body.get("response_format"), dict) and body["response_format"].get("type", "text") != "text":
        words = [json.dumps({"answer": prompt})]
    tokens = [words[0]] + [f" {word}" for word in words[1:]]
    if body.get("ignore_eos"):
        tokens += [" on"] * (limit - len(tokens))
    stop_reached = len(tokens) <= limit and not body.get("ignore_eos")
    found = re.search(r"\[compute:([\d.]+)\]", prompt)
    return Wanted(
        chat=chat,
        model=name,
        prompt_tokens=len(prompt.split()),
        tokens=tokens[:limit],
        finish="stop" if stop_reached else "length",
        compute=float(found[1]) if found else 0.0,
        stream=bool(body.get("stream")),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        tool=tool,
    )


def _tool(body: dict[str, Any]) -> str | None:
    tools = body.get("tools")
    if not tools or body.get("tool_choice", "auto") == "none":
        return None
    if body.get("tool_choice", "auto") == "auto":
        raise bad_request('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    choice = body["tool_choice"]
    return str(choice["function"]["name"] if isinstance(choice, dict) else tools[0]["function"]["name"])


def whole_answer(number: int, wanted: Wanted, text: str, finish: str) -> dict[str, Any]:
    """The answer of a request without ``stream``."""
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish, "stop_reason": None}
    if not wanted.chat:
        choice["text"] = text
    elif wanted.tool:
        call = {
            "id": f"chatcmpl-tool-{number}",
            "type": "function",
            "function": {"name": wanted.tool, "arguments": "{}"},
        }
        choice["message"] = {"role": "assistant", "content": "", "tool_calls": [call]}
    else:
        choice["message"] = {"role": "assistant", "content": text, "refusal": None, "tool_calls": []}
    kind = "chat.completion" if wanted.chat else "text_completion"
    return {**_head(number, wanted, kind), "choices": [choice], "usage": usage(wanted)}


def chunk(number: int, wanted: Wanted, delta: dict[str, Any] | str, finish: str | None) -> dict[str, Any]:
    """One event of a stream."""
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish}
    choice["text" if isinstance(delta, str) else "delta"] = delta
    kind = "chat.completion.chunk" if wanted.chat else "text_completion"
    return {**_head(number, wanted, kind), "choices": [choice]}


def usage_chunk(number: int, wanted: Wanted) -> dict[str, Any]:
    """The last event where the usage was asked for."""
    kind = "chat.completion.chunk" if wanted.chat else "text_completion"
    return {**_head(number, wanted, kind), "choices": [], "usage": usage(wanted)}


def usage(wanted: Wanted) -> dict[str, int]:
    """Tokens counted."""
    made = len(wanted.tokens)
    total = wanted.prompt_tokens + made
    return {"prompt_tokens": wanted.prompt_tokens, "total_tokens": total, "completion_tokens": made}


def _head(number: int, wanted: Wanted, kind: str) -> dict[str, Any]:
    name = f"{'chatcmpl' if wanted.chat else 'cmpl'}-{number}"
    head = {"id": name, "object": kind, "created": int(time.time()), "model": wanted.model}
    return {**head, "system_fingerprint": FINGERPRINT}


def models(name: str, root: str) -> dict[str, Any]:
    """``/v1/models``."""
    entry = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "vllm", "root": root}
    return {"object": "list", "data": [{**entry, "parent": None, "max_model_len": MAX_MODEL_LEN, "permission": []}]}


def metrics(name: str, running: int, prompt: int, generated: int) -> str:
    """``/metrics``: the counters among some of their neighbours, whose names begin alike."""
    labels = f'{{engine="0",model_name="{name}"}}'
    lines = [
        'python_info{implementation="CPython",major="3",minor="11",patchlevel="7",version="3.11.7"} 1.0',
        "# HELP vllm:num_requests_running Number of requests in model execution batches.",
        "# TYPE vllm:num_requests_running gauge",
        f"vllm:num_requests_running{labels} {running:.1f}",
        "# TYPE vllm:num_requests_waiting gauge",
        f"vllm:num_requests_waiting{labels} 0.0",
        f'vllm:num_requests_waiting_by_reason{{engine="0",model_name="{name}",reason="capacity"}} 0.0',
        "# TYPE vllm:prompt_tokens_total counter",
        f"vllm:prompt_tokens_total{labels} {prompt:.1f}",
        f"vllm:prompt_tokens_created{labels} 1.795350852018429e+09",
        "# TYPE vllm:generation_tokens_total counter",
        f"vllm:generation_tokens_total{labels} {generated:.1f}",
        f"vllm:generation_tokens_created{labels} 1.795350852018429e+09",
        f'vllm:iteration_tokens_total_bucket{{engine="0",le="1.0",model_name="{name}"}} 12.0',
    ]
    return "\n".join(lines) + "\n"
