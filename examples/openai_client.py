"""The `openai` client with a managed server: pip install openai, then python examples/openai_client.py "who are you?".

The orchestrator sees to the server, the client of your choice to the requests. Ask `ensure_healthy` before each
request: it costs microseconds while the server is healthy, and otherwise starts or restarts it.
"""

import sys

import openai

from acode_vllm import VllmServiceOrchestrator

with VllmServiceOrchestrator.from_configuration() as vllm:
    vllm.ensure_healthy()
    client = openai.OpenAI(base_url=vllm.base_url, api_key=vllm.api_key or "-")
    stream = client.chat.completions.create(
        model=vllm.served_model_name,
        messages=[{"role": "user", "content": sys.argv[1]}],
        temperature=0,
        stream=True,
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()
    client.close()
