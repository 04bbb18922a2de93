"""Everything that can be known before a start: vLLM, the model, the memory, the devices, the port.

May import: acode_vllm.io, acode_vllm.vocabulary, acode_vllm.supervisor, acode_vllm.workers.messages,
    acode_vllm.workers.machine, acode_vllm.workers.gpu, acode_vllm.workers.vllm, acode_vllm.workers.diagnosis,
    acode_vllm.workers.model, acode_vllm.workers.health.
"""
