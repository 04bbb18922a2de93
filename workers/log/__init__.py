"""A log that another process writes: its rotation, and reading it as if it had never been rotated.

It knows nothing of vLLM. A log keeps its file, for its writers hold it open; a rotation takes the front of it away.

May import: acode_vllm.io, acode_vllm.vocabulary, acode_vllm.supervisor, acode_vllm.workers.messages,
    acode_vllm.workers.machine.
"""
