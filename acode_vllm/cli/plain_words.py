"""A command line as far as it can be read without a parser: words, and the options of every command.

What is read here means the same to the parser. What only the parser can read is left to it. A leaf.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

WITH_VALUE = ("--provider", "--config", "--mode", "--lifecycle-mode", "--port", "--log-format")
WITHOUT_VALUE = ("-q", "--quiet", "-v", "--verbose", "--no-color")
"""The options of every command, which may stand before or after it."""


class NotPlainError(ValueError):
    """A word that only the parser can read."""


def read_words(words: Sequence[str], flags: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """Each option with its value, and each other word as the value of the option ``""``, in their order.

    Args:
        words: The command line.
        flags: Options without a value that are known besides those of every command.

    Raises:
        NotPlainError: At a word that only the parser can read.
    """
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            yield "", word
        elif name in WITH_VALUE:
            if not equals:
                value = next(left, "")
            if not value or value.startswith("-"):
                raise NotPlainError(word)
            yield name, value
        elif word in WITHOUT_VALUE or word in flags:
            yield word, ""
        else:
            raise NotPlainError(word)
