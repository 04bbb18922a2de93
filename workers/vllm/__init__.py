"""vLLM as a program: its command, build and version, its launch, its log file.

May import: acode_vllm.vocabulary, acode_vllm.settings, acode_vllm.workers.messages, acode_vllm.workers.machine,
    acode_vllm.workers.log, acode_vllm.workers.gpu.
"""
