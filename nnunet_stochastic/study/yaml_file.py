"""A YAML file whose keys are told by line: content for a schema, and where in the file a part of it stands."""

from __future__ import annotations

from collections.abc import Sequence
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

        class Loader(yaml.SafeLoader):
            pass

        def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
            keys = [loader.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise ValueError(f"{file}, line {node.start_mark.line + 1}: {twice[0]} is there twice; leave one")
            return loader.construct_mapping(node, deep=True)

        Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
        try:
            loader = Loader(file.read_text(encoding="utf-8"))
            root = loader.get_single_node()
            if root is None:
                return cls(None, None)
            _count_parts(root, {})
            content = loader.construct_document(root)
        except yaml.YAMLError as error:
            raise ValueError(f"{file} is no YAML file: {error}") from error
        except RecursionError as error:
            raise ValueError(f"{file} is no YAML file of a study: it is nested too deeply") from error
        except ValueError as error:  # of dates that are none, and of bytes that are no UTF-8
            known = str(error).startswith(str(file))
            raise error if known else ValueError(f"{file} is no YAML file of a study: {error}") from error
        return cls(content, root)

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
        return [(key.value, key.start_mark.line, value) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(str(index), item.start_mark.line, item) for index, item in enumerate(node.value)]
    return []
