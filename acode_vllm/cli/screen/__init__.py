"""What a person sees: values as text, progress, colours, and the terminal itself.

May import: acode_vllm.vocabulary, acode_vllm.workers.model, acode_vllm.workers.preflight.
"""
