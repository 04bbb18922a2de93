"""The service's folder: who owns it, what is recorded of the server, its history and its log.

May import: acode_vllm.vocabulary, acode_vllm.workers.messages, acode_vllm.workers.machine, acode_vllm.workers.log,
    acode_vllm.workers.vllm, acode_vllm.workers.process.
"""
