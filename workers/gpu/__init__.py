"""GPU devices: NVIDIA through NVML, AMD through sysfs and its tools; samples of them, and who holds their memory.

May import: acode_vllm.vocabulary, acode_vllm.supervisor, acode_vllm.workers.messages, acode_vllm.workers.machine.
"""
