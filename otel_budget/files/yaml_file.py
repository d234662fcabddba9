"""A YAML file that remembers the line of each key, so that a refusal can name it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml
from yaml.reader import ReaderError

from otel_budget.errors import ConfigFileError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

T = TypeVar("T")
KeyPath = tuple[str | int, ...]

#: Values a file may hold, those as often that its aliases repeat.
MOST_VALUES: Final = 100_000
#: Of a YAML node that is text.
_TEXT: Final = "tag:yaml.org,2002:str"
#: How a refusal of an unknown key begins to say which keys there are.
THE_KEYS: Final = "the keys "


class YamlFile:
    """A mapping read from YAML, with the line of every key in it."""

    def __init__(
        self,
        path: str,
        data: Mapping[str, object],
        lines: Mapping[KeyPath, int],
        plain: Mapping[KeyPath, str],
    ) -> None:
        """lines: path of keys to its line, from 1. plain: to its text without quotes."""
        self.path, self.data, self._lines, self._plain = path, data, lines, plain

    @classmethod
    def read(cls, path: str | PathLike[str]) -> YamlFile:
        """Read a file. Raises ConfigFileError if it cannot be read or is not a YAML mapping."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as exc:  # no UTF-8, or a path with a NUL in it
            raise ConfigFileError(str(path), f"cannot be read: {exc}") from exc
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, path: str = "<string>") -> YamlFile:
        """Read YAML text; path names it in errors."""
        try:
            loader = yaml.SafeLoader(text)
            node = loader.get_single_node()
            notes = _Notes(path)
            if node is not None:
                _refuse_growth(node, path)
                notes.take(node, ())
            data = loader.construct_document(node) if node is not None else {}
        except (InvalidValueError, ConfigFileError):
            raise
        except (yaml.YAMLError, ValueError, RecursionError) as exc:
            # ValueError: what looks like a date and is none; RecursionError: nested too deeply.
            raise ConfigFileError(path, f"is not YAML: {_problem(exc)}", _line(exc, text)) from exc
        data = {} if data is None else data
        if not isinstance(data, dict):
            raise ConfigFileError(path, f"holds {type(data).__name__}, not a mapping of keys")
        return cls(path, data, notes.lines, notes.plain)

    def where(self, *keys: str | int) -> str:
        """Return ``file:line`` of a key, or of the nearest key above it."""
        for end in range(len(keys), 0, -1):
            line = self._lines.get(tuple(keys[:end]))
            if line is not None:
                return f"{self.path}:{line}"
        return self.path

    def plain_text(self, *keys: str | int) -> str | None:
        """Return the text of a key that YAML reads as text and has no quotes; None of another."""
        return self._plain.get(keys)

    def section(self, key: str) -> YamlFile:
        """Return the mapping under a key as if it were a file; an absent one is empty."""
        value = self.data.get(key)
        value = {} if value is None else value
        if not isinstance(value, dict):
            raise InvalidValueError(key, value, "a mapping of keys", where=self.where(key))
        return YamlFile(self.path, value, _below(key, self._lines), _below(key, self._plain))

    def build(self, make: Callable[[Mapping[str, Any]], T]) -> T:
        """Make something of the mapping; a refusal gets the file and line of its key."""
        try:
            return make(self.data)
        except InvalidValueError as exc:
            allowed = exc.allowed
            if allowed.startswith(THE_KEYS):
                known = allowed.removeprefix(THE_KEYS).split(", ")
                allowed += meant(exc.key, known)
            raise InvalidValueError(
                exc.key, exc.value, allowed, where=self.where(exc.key), sentence=exc.sentence
            ) from exc


def meant(key: str, known: Sequence[str]) -> str:
    """Return what to add to a refusal of an unknown key: a known one that looks like it, if any."""
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def dotted(keys: KeyPath) -> str:
    """Return ``source.scrape.targets[0].url``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


def _refuse_growth(node: yaml.Node, path: str) -> None:
    if _size(node, {}) > MOST_VALUES:
        raise ConfigFileError(path, f"holds more than {MOST_VALUES:,} values")


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node holds, those as often that aliases repeat.

    A few lines of aliases to aliases hold billions, and each reader of the data would walk them.
    known: id of a node to its size; one that is being counted holds itself, and counts 0 there.
    """
    size = known.get(id(node))
    if size is not None:
        return size
    known[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [each for pair in node.value for each in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]


def _below(key: str, notes: Mapping[KeyPath, T]) -> dict[KeyPath, T]:
    """Return what is noted of what is below a key."""
    return {path[1:]: note for path, note in notes.items() if path[:1] == (key,)}


class _Notes:
    """What a file says of its keys besides their values."""

    def __init__(self, path: str) -> None:
        """path: names the file in errors."""
        self.lines: dict[KeyPath, int] = {}
        """From 1."""
        self.plain: dict[KeyPath, str] = {}
        """Text without quotes."""
        self._path = path
        self._seen: set[int] = set()
        """Ids of nodes that were looked into: what aliases repeat, or hold in a circle, is once."""

    def take(self, node: yaml.Node, at: KeyPath) -> None:
        """Write down what is below a node; refuse a key that is there twice."""
        if isinstance(node, yaml.ScalarNode):
            if node.style is None and node.tag == _TEXT:
                self.plain[at] = node.value
            return
        if id(node) in self._seen:
            return
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*at, str(key.value))
                self._take_line(here, key.start_mark.line + 1)
                self.take(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self.lines[(*at, index)] = value.start_mark.line + 1
                self.take(value, (*at, index))

    def _take_line(self, here: KeyPath, line: int) -> None:
        if here in self.lines:
            raise InvalidValueError(
                dotted(here), str(here[-1]), "a key that is there once",
                where=f"{self._path}:{line}",
                sentence=f"is here a second time; the first is on line {self.lines[here]}",
            )  # fmt: skip
        self.lines[here] = line


def _problem(exc: Exception) -> str:
    """Say on one line what the parser stumbled over, without the piece of the file it shows."""
    if isinstance(exc, yaml.MarkedYAMLError):
        said = exc.problem or exc.context or "it cannot be read"
        began = exc.context_mark
        if exc.problem and exc.context and began is not None:
            said = f"{exc.context} from line {began.line + 1}: {said}"
        return " ".join(said.split())
    if isinstance(exc, ReaderError):
        return f"it holds the character U+{exc.character:04X}, which is not allowed in YAML"
    return " ".join(str(exc).split())


def _line(exc: Exception, text: str) -> int | None:
    """Return the line the parser stumbled over, from 1; None where it does not say."""
    if isinstance(exc, yaml.MarkedYAMLError):
        mark = exc.problem_mark or exc.context_mark
        return None if mark is None else mark.line + 1
    if isinstance(exc, ReaderError):
        return text.count("\n", 0, exc.position) + 1
    return None
