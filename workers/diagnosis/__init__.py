"""Why vLLM failed: rules that find the first specific cause in its log and its exit, and what to do about it.

May import: acode_vllm.vocabulary, acode_vllm.workers.messages, acode_vllm.workers.log, acode_vllm.workers.vllm.
"""
