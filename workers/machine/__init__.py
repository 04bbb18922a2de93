"""What the operating system tells and does: processes and their trees, exits, shared memory, sockets, ports, the leash.

It knows nothing of vLLM but the names of its processes.

May import: acode_vllm.io, acode_vllm.vocabulary, acode_vllm.supervisor, acode_vllm.workers.messages.
"""
