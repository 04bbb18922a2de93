"""The table of settings: what each is called, what is allowed, and which option of vLLM it becomes.

May import: acode_vllm.vocabulary.
"""
