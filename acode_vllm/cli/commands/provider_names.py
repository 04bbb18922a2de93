"""The providers that there are. A leaf."""

PROVIDERS = ("vllm",)
DEFAULT_PROVIDER = "vllm"
