"""Answer a file of prompts, one a line, with several threads: python examples/batch.py prompts.txt > answers.jsonl.

vLLM batches what arrives together, so several requests at once cost little more than one. A crash of the server in
the middle of the batch costs nothing but time: each request is sent again to the restarted server. A prompt that fails
for good is reported with its code, and the others go on.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from acode_vllm import Provider, ProviderRegistry, VllmServiceError

THREADS = 8


def answer(provider: Provider, prompt: str) -> dict[str, str]:
    """One line of the result."""
    try:
        text = provider.chat([{"role": "user", "content": prompt}], temperature=0, max_tokens=64).text
    except VllmServiceError as error:
        return {"prompt": prompt, "error": error.code, "message": error.problem.message}
    return {"prompt": prompt, "text": text}


def main() -> int:
    """0 where every prompt was answered."""
    prompts = [line for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines() if line.strip()]
    failed = 0
    with ProviderRegistry() as registry, ThreadPoolExecutor(THREADS) as pool:
        provider = registry.get_provider("vllm")
        for result in pool.map(lambda prompt: answer(provider, prompt), prompts):  # in the order of the file
            failed += "error" in result
            print(json.dumps(result), flush=True)
    print(f"{len(prompts) - failed} of {len(prompts)} answered", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
