"""Reads some sections of a YAML file that others share and nobody vouches for.

Sections that are not asked for are never looked into: an anchor that explodes there costs nothing, an unknown tag or
a key given twice there is its owner's affair. In those that are, every value keeps its line, a key given twice is a
fault, and no object but plain data is ever made. Imports yaml, and only when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node, ScalarNode

_MOST_EVENTS = 100_000
_DEEPEST = 64
_MOST_VALUES = 2_000
_DEEPEST_VALUE = 8
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Entry:
    """A value of a file and the line of it; ``children`` by key, or ``[0]``, ``[1]`` … for a list."""

    value: object
    line: int
    children: Mapping[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True)
class YamlFault:
    """Something in a file that cannot be read: where (a dotted key, or empty for the whole file), and why."""

    key: str
    line: int
    reason: str


@dataclass(frozen=True)
class YamlSections:
    """The sections that were asked for and are there, by dotted key, and what could not be read."""

    sections: Mapping[str, Entry]
    faults: tuple[YamlFault, ...] = ()


class _TooMuchError(Exception):
    """A file larger than any configuration, or one that expands to that."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def read_sections(text: str, wanted: tuple[str, ...]) -> YamlSections:
    """The ``wanted`` sections (dotted keys) of a YAML text. Never raises for what is in the text."""
    import yaml
    from yaml.constructor import SafeConstructor

    # libyaml's parser where PyYAML was built with it: 20 times as fast.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _refuse_excess(yaml.parse(text, Loader=loader))
        root = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        return _unreadable(mark.line + 1 if mark else 1, f"is not valid YAML ({reason})" + _tab_hint(text, mark))
    except yaml.YAMLError as error:
        return _unreadable(1, f"is not valid YAML ({error})")
    except _TooMuchError as error:
        return _unreadable(error.line, str(error))
    if root is None:
        return YamlSections({})
    return _Reader(SafeConstructor(), wanted).read(root)


def _unreadable(line: int, reason: str) -> YamlSections:
    return YamlSections({}, (YamlFault("", line, reason),))


def _tab_hint(text: str, mark: Any) -> str:
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    return "; indent with spaces, not with tabs" if "\t" in line[: len(line) - len(line.lstrip())] else ""


def _refuse_excess(events: Any) -> None:
    # The composer calls itself for each level, in C without a guard: depth is limited before it runs.
    from yaml.events import CollectionEndEvent, CollectionStartEvent

    depth = 0
    for count, event in enumerate(events):
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST or count > _MOST_EVENTS:
            raise _TooMuchError(event.start_mark.line + 1, "is nested too deeply or holds too many values")


class _Reader:
    """Turns the wanted parts of a tree of nodes into entries."""

    def __init__(self, constructor: Any, wanted: tuple[str, ...]) -> None:
        self._scalars: dict[str, Callable[[ScalarNode], object]] = {
            _TAG + "null": lambda _node: None,
            _TAG + "bool": constructor.construct_yaml_bool,
            _TAG + "int": constructor.construct_yaml_int,
            _TAG + "float": constructor.construct_yaml_float,
            _TAG + "str": lambda node: str(node.value),
            _TAG + "value": lambda node: str(node.value),
        }
        self._wanted = wanted
        self._faults: list[YamlFault] = []
        self._sections: dict[str, Entry] = {}
        self._left = _MOST_VALUES

    def read(self, root: Node) -> YamlSections:
        try:
            self._descend(root, "")
        except _TooMuchError as error:
            return _unreadable(error.line, str(error))
        return YamlSections(self._sections, tuple(self._faults))

    def _descend(self, node: Node, prefix: str) -> None:
        """Looks for the wanted sections at and below ``node``, whose dotted key ends with a dot or is empty."""
        pairs = self._pairs(node, prefix.rstrip("."), only=self._names_below(prefix))
        for name, (line, child) in (pairs or {}).items():
            key = prefix + name
            if key not in self._wanted:
                self._descend(child, key + ".")
            elif (entry := self._entry(child, key, line, 1)) is not None:
                self._sections[key] = entry

    def _names_below(self, prefix: str) -> set[str]:
        return {key[len(prefix) :].split(".")[0] for key in self._wanted if key.startswith(prefix)}

    def _pairs(self, node: Node, key: str, only: set[str] | None = None) -> dict[str, tuple[int, Node]] | None:
        """The entries of a mapping: name → (line, node); None, and a fault, where it is none."""
        from yaml.nodes import MappingNode

        if node.tag == _TAG + "null":
            return {}
        if not isinstance(node, MappingNode) or node.tag != _TAG + "map":
            self._fault(key, node, "is not a mapping (keys and values)")
            return None
        return self._names(node, key, only)

    def _names(self, node: MappingNode, key: str, only: set[str] | None) -> dict[str, tuple[int, Node]]:
        pairs: dict[str, tuple[int, Node]] = {}
        for name_node, child in node.value:
            name = name_node.value
            merges = name_node.tag == _TAG + "merge"
            if only is not None and not (_names_in(child) & only if merges else isinstance(name, str) and name in only):
                continue
            if merges:
                self._fault(key, name_node, "merges another mapping with '<<'; write its keys out")
            elif name_node.tag != _TAG + "str":
                shown = name if isinstance(name, str) else "…"
                self._fault(key, name_node, f"has a key that is not text ({shown}); put it in quotes")
            elif name in pairs:
                first = pairs[name][0]
                self._fault(_join(key, name), name_node, f"is given twice, first in line {first}")
            else:
                pairs[name] = (name_node.start_mark.line + 1, child)
        return pairs

    def _entry(self, node: Node, key: str, line: int, depth: int) -> Entry | None:
        from yaml.nodes import MappingNode, SequenceNode

        self._left -= 1
        if self._left < 0 or depth > _DEEPEST_VALUE:
            raise _TooMuchError(line, f"{key} expands to too many values or levels")
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            pairs = self._names(node, key, None)
            found = {name: self._entry(child, _join(key, name), at, depth + 1) for name, (at, child) in pairs.items()}
            children = {name: entry for name, entry in found.items() if entry is not None}
            return Entry({name: entry.value for name, entry in children.items()}, line, children)
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            items = [
                self._entry(child, f"{key}[{i}]", child.start_mark.line + 1, depth + 1)
                for i, child in enumerate(node.value)
            ]
            kept = [entry for entry in items if entry is not None]
            return Entry([entry.value for entry in kept], line, {f"[{i}]": entry for i, entry in enumerate(kept)})
        return self._scalar(node, key, line)

    def _scalar(self, node: Any, key: str, line: int) -> Entry | None:
        construct = self._scalars.get(node.tag)
        if construct is None or not isinstance(node.value, str):
            kind = node.tag.removeprefix(_TAG)
            self._fault(key, node, f"is of the YAML type {kind}, which is not allowed here; put text in quotes")
            return None
        try:
            return Entry(construct(node), line)
        except (ValueError, LookupError, OverflowError):
            self._fault(key, node, f"is not of the YAML type that it claims ({node.tag.removeprefix(_TAG)})")
            return None

    def _fault(self, key: str, node: Node, reason: str) -> None:
        self._faults.append(YamlFault(key, node.start_mark.line + 1, reason))


def _names_in(node: Node) -> set[str]:
    """The keys that merging ``node`` would bring."""
    from yaml.nodes import MappingNode, SequenceNode

    mappings = node.value if isinstance(node, SequenceNode) else [node]
    pairs = (pair for mapping in mappings if isinstance(mapping, MappingNode) for pair in mapping.value)
    return {name.value for name, _ in pairs if isinstance(name.value, str)}


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
