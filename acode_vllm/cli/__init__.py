"""The command ``acode``."""
