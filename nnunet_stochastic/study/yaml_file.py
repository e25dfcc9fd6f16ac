"""A YAML file whose keys are told by line: content for a schema, and where in the file a part of it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["YamlFile"]

_MOST_PARTS = 100_000


@dataclass(frozen=True)
class YamlFile:
    """Content of a YAML file.

    Attributes
    ----------
    content
        What the file says, as dictionaries, lists and scalars; None if it is empty.
    root
        The same with positions.
    """

    content: Any
    root: yaml.Node | None

    @classmethod
    def read(cls, file: Path) -> YamlFile:
        """Read a file; a key that is there twice is an error, of which YAML itself would keep the last.

        Raises
        ------
        ValueError
            If the file is no YAML, or has a key twice.
        """

        try:
            text = file.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise ValueError(f"{file}, line {line}: not in UTF-8; save the file in that encoding") from error
        try:
            loader = _Loader(text)
            root = loader.get_single_node()
            if root is None:
                return cls(None, None)
            _count_parts(root, {})
            if twice := next(_keys_that_are_there_twice(root), None):
                line = twice.start_mark.line + 1
                raise ValueError(f"{file}, line {line}: {twice.value[:60]} is there twice; leave one")
            return cls(loader.construct_document(root), root)
        except yaml.reader.ReaderError as error:
            line = text[: error.position].count("\n") + 1
            raise ValueError(f"{file}, line {line}: YAML has no character {chr(error.character)!r}") from error
        except yaml.YAMLError as error:
            raise ValueError(f"{file} is no YAML file: {error}") from error
        except RecursionError as error:
            raise ValueError(f"{file} is no YAML file of a study: it is nested too deeply") from error
        except ValueError as error:
            known = str(error).startswith(str(file))
            raise error if known else ValueError(f"{file} is no YAML file of a study: {error}") from error

    def line(self, path: Sequence[str | int]) -> int:
        """Line of a key or an entry, from 1; of what it would stand in, if it is not there.

        Parameters
        ----------
        path
            Keys, and indices from 0, from the top of the file.
        """
        if self.root is None:
            return 1
        node, line = self.root, self.root.start_mark.line
        for part in path:
            # Merged keys (<<) stand in front of a mapping's own, which prevail.
            parts = _parts(node)
            found = next((item for item in reversed(parts) if item[0] == str(part)), None)
            if found is None:
                break
            _, line, node = found
        return line + 1


class _Loader(yaml.SafeLoader):
    """PyYAML's, with a place in all of its errors."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError) as error:  # a day that no month has, !!bool maybe, !!timestamp no
            kind = node.tag.rpartition(":")[2]
            problem = f"{str(node.value)[:60]!r} is no {kind}; put it into quotes, if it is text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


def _keys_that_are_there_twice(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """Keys of one mapping that are written like one before them."""
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                    if (key.tag, key.value) in keys:
                        yield key
                    keys.add((key.tag, key.value))
                nodes.append(value)


def _text_of(key: yaml.Node) -> str:
    """A key as the content has it: ``on`` is True there."""
    return str(_Loader("").construct_object(key, deep=True))


def _count_parts(node: yaml.Node, counted: dict[int, int]) -> int:
    """Number of parts of a node, where each alias stands for all that it names; an error beyond what a study needs."""
    if counted.get(id(node)) == 0:
        raise ValueError(f"line {node.start_mark.line + 1} holds itself by an alias")
    if id(node) not in counted:
        counted[id(node)] = 0
        children = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        parts = children if isinstance(node, yaml.CollectionNode) else []
        counted[id(node)] = 1 + sum(_count_parts(part, counted) for part in parts)
        if counted[id(node)] > _MOST_PARTS:
            raise ValueError(f"line {node.start_mark.line + 1} has more than {_MOST_PARTS} parts, aliases counted each")
    return counted[id(node)]


def _parts(node: yaml.Node) -> list[tuple[str, int, yaml.Node]]:
    """Key or index as text, line from 0, and value of each part of a mapping or a list."""
    if isinstance(node, yaml.MappingNode):
        return [(_text_of(key), key.start_mark.line, value) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(str(index), item.start_mark.line, item) for index, item in enumerate(node.value)]
    return []
