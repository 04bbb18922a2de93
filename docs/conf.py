"""How Sphinx builds the documentation: `make docs`. Warnings are errors there."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from acode_vllm._version import __version__  # noqa: E402

project = "acode-vllm"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docs_pages"]
exclude_patterns = ["systemd"]

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autoclass_content = "both"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"acode-vllm {__version__}"
html_show_sourcelink = False
html_copy_source = False
