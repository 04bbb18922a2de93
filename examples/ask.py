"""Ask one question: python examples/ask.py "write a hello world program"."""

import sys

from acode_vllm import ProviderRegistry

with ProviderRegistry() as registry:
    provider = registry.get_provider("vllm")  # finds or starts the server, and waits until it is healthy
    answer = provider.chat([{"role": "user", "content": sys.argv[1]}], temperature=0)
    print(answer.text)
