"""The names of the providers. A leaf."""

PROVIDERS = ("vllm",)
DEFAULT_PROVIDER = "vllm"
