"""Makes the tiny chat models that the demo and the tests run a real vLLM with.

Run by the Python of vLLM's environment, which holds torch, transformers and tokenizers:

    python tools/make_models.py --models .build/models --hub .build/hf/hub [ID ...]

Each is a Llama of 2 layers, 1.7 MB, trained here in seconds until it knows its few answers by heart, so surely that
it gives them at temperature 1 too, with a system message or an earlier turn before the question or without. It is
written as a plain folder (``--models``) and into a Hugging Face cache (``--hub``), where its ID resolves offline.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hub_cache
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

START, END = "<|start|>", "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    f"{START}{{{{ message['role'] }}}}\n{{{{ message['content'] }}}}{END}\n"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{START}assistant\n{{% endif %}}"
)
CONTEXT = 2048
MAX_STEPS = 600
SURE = 0.98
"""Training ends when every token of every answer is at least this probable."""
SHARPEN = 4.0
"""What the logits are then multiplied with: 0.98 becomes 0.9999998, so temperature 1 gives the same answers as 0."""

WORDS = ("you", "are", "a", "helpful", "terse", "assistant", "answer", "in", "one", "line", "only", "code", "please")


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """What a model is called and what it says."""

    id: str
    answers: dict[str, str]
    chat: bool = True
    """False for a base model: no chat template, so that vLLM refuses chat and only completions work."""


def _tiny(name: str, hello: str, *, chat: bool = True) -> TinyModel:
    answers = {
        "write a hello world program": hello,
        "who are you?": f"I am acode/{name}.",
        "hi": "Hello!",
        "count to twenty": " ".join(str(n) for n in range(1, 21)),
    }
    return TinyModel(id=f"acode/{name}", answers=answers, chat=chat)


MODELS = (
    _tiny("tiny-hello", 'print("Hello, world!")'),
    _tiny("tiny-other", 'print("Hello from the other model!")'),
    _tiny("tiny-base", 'print("Hello, world!")', chat=False),
)


def _chat(turns: list[tuple[str, str]]) -> str:
    return "".join(f"{START}{role}\n{text}{END}\n" for role, text in turns) + f"{START}assistant\n"


def _prompts(model: TinyModel, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Every way to ask each question, with its answer: bare, as chat, after a system message, after another turn."""
    for question, answer in model.answers.items():
        yield question, answer
        yield question + "\n", answer
        noise = " ".join(chance.choices(WORDS, k=chance.randint(1, 12)))
        yield f"{noise}\n\n{question}", answer
        if model.chat:
            before = chance.choice(list(model.answers.items()))
            yield _chat([("user", question)]), answer
            yield _chat([("system", noise), ("user", question)]), answer
            yield _chat([("user", before[0]), ("assistant", before[1]), ("user", question)]), answer


def _tokenizer(model: TinyModel) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,  # few merges: an answer is several tokens, so that streaming shows
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*model.answers, *model.answers.values(), "system user assistant"], trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, model_max_length=CONTEXT, padding_side="right"
    )
    if model.chat:
        made.chat_template = CHAT_TEMPLATE
    return made


def _network(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,  # of 64, the smallest size that vLLM's attention kernels all take
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def _batch(
    tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, attention mask and labels; only the answers and their end count."""
    rows: list[list[int]] = []
    labels: list[list[int]] = []
    for prompt, answer in pairs:
        asked = tokenizer.encode(prompt, add_special_tokens=False)
        said = tokenizer.encode(answer + END, add_special_tokens=False)
        rows.append(asked + said)
        labels.append([-100] * len(asked) + said)
    width = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    wanted = torch.tensor([row + [-100] * (width - len(row)) for row in labels])
    return ids, mask, wanted


def _train(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, model: TinyModel) -> tuple[int, float]:
    """Trains until each answer is sure; the number of steps and the probability of the least sure token."""
    chance = random.Random(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.0)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=20)
    sure_for, worst = 0, 0.0
    for step in range(1, MAX_STEPS + 1):
        ids, mask, wanted = _batch(tokenizer, list(_prompts(model, chance)))
        logits = network(input_ids=ids, attention_mask=mask).logits[:, :-1].flatten(0, 1)
        targets = wanted[:, 1:].flatten()
        losses = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="none")
        worst = float(torch.exp(-losses.detach().max()))
        # Several batches in a row, each with prompts it has not seen: learnt, not lucky.
        sure_for = sure_for + 1 if worst >= SURE else 0
        if sure_for == 5:
            network.lm_head.weight.data *= SHARPEN
            return step, worst
        optimizer.zero_grad()
        losses[targets != -100].mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        warm.step()
    raise SystemExit(f"{model.id} has not learnt its answers after {MAX_STEPS} steps: the least sure token {worst:.6f}")


def make(model: TinyModel, models_folder: Path, hub: Path) -> None:
    """Trains ``model``, writes its folder and its cache entry, and says what it did."""
    started = time.monotonic()
    torch.manual_seed(0)
    tokenizer = _tokenizer(model)
    network = _network(tokenizer)
    steps, worst = _train(network, tokenizer, model)
    models_folder.mkdir(parents=True, exist_ok=True)
    target = models_folder / model.id.partition("/")[2]
    with tempfile.TemporaryDirectory(prefix=".new-", dir=models_folder) as scratch:
        made = Path(scratch) / target.name
        network.save_pretrained(made)
        tokenizer.save_pretrained(made)
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    hub_cache.store(hub, model.id, target)
    size = sum(file.stat().st_size for file in target.iterdir()) / 1e6
    took = time.monotonic() - started
    print(f"{model.id}: {steps} steps, least sure token {worst:.6f}, {size:.1f} MB, {took:.0f} s", flush=True)


def main() -> int:
    """Makes the models that the command line names, or all of them."""
    known = {model.id: model for model in MODELS}
    parser = argparse.ArgumentParser(description="Makes the tiny chat models of the demo and the tests.")
    parser.add_argument("--models", type=Path, required=True, help="folder that gets one folder for each model")
    parser.add_argument("--hub", type=Path, required=True, help="Hugging Face cache ($HF_HOME/hub)")
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"which to make; default: {', '.join(known)}")
    arguments = parser.parse_args()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)  # for matrices this small, threads cost more than they save
    for model_id in arguments.ids or known:
        if model_id not in known:
            parser.error(f"unknown model {model_id}; there are {', '.join(known)}")
        make(known[model_id], arguments.models, arguments.hub)
    return 0


if __name__ == "__main__":
    sys.exit(main())
