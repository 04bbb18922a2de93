"""How programs that do not own a service ask its owner: protocol, socket, server, client, and the stream of events.

May import: acode_vllm.io, acode_vllm.vocabulary, acode_vllm.config, acode_vllm.records, acode_vllm.supervisor,
    acode_vllm.workers.messages, acode_vllm.workers.machine.
"""
