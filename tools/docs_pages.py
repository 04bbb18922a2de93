"""An extension of Sphinx: puts generated parts in the place of ``generated`` blocks while the documentation is built.

    ```{generated} settings
    What a reader of the source sees instead.
    ```

What is generated comes from the code that runs, so that no page can promise what is not so, and nothing generated is
kept in the repository, where it could grow stale. A block whose name is not known here fails the build.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import conformance
import docs_command
import docs_data
import docs_states

from acode_vllm.cli.arguments import build_parser
from acode_vllm.config.settings_docs import settings_table_markdown

if TYPE_CHECKING:
    from sphinx.application import Sphinx

BLOCK = re.compile(r"^```\{generated\} (?P<name>[a-z-]+)\n(?:.*\n)*?```\n", re.MULTILINE)
PARTS: dict[str, Callable[[], str]] = {
    "command": lambda: docs_command.command_markdown(build_parser()),
    "settings": settings_table_markdown,
    "config-template": docs_data.template_markdown,
    "config-schema": docs_data.schema_markdown,
    "variables": docs_data.variables_markdown,
    "errors": docs_data.errors_markdown,
    "error-tree": docs_data.error_tree,
    "events": docs_data.events_markdown,
    "status": docs_data.status_markdown,
    "states": docs_states.states_svg,
    "transitions": docs_states.states_table,
    "conformance": conformance.conformance_markdown,
}
"""Name → what makes its Markdown."""


def with_parts(text: str) -> str:
    """A page with every ``generated`` block replaced.

    Raises:
        KeyError: Nothing is generated under that name.
    """
    return BLOCK.sub(lambda found: PARTS[found["name"]](), text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""

    def replace(_app: Sphinx, _page: str, source: list[str]) -> None:
        source[0] = with_parts(source[0])

    app.connect("source-read", replace)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
