"""Read a YAML file by a schema: every value is asked for once, and what nobody asked for is an error with its path."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Mapped", "load_yaml", "text_items"]

_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


def load_yaml(file: Path) -> Any:
    """Content of a YAML file; a key that is there twice is an error, of which YAML itself would keep the last.

    Raises
    ------
    ValueError
        If PyYAML is missing, or the file is no YAML.
    """
    try:
        import yaml
    except ImportError as error:
        raise ValueError('a study needs PyYAML: run pip install "nnunet-stochastic[study]"') from error

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"{file}, line {node.start_mark.line + 1}: {twice[0]} is there twice; leave one")
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no YAML file: {error}") from error


class Mapped:
    """A mapping of the file, whose keys are taken out one by one.

    Parameters
    ----------
    content
        The mapping.
    path
        Of its key in the file, for messages; empty at the top.
    """

    def __init__(self, content: Any, path: str = "") -> None:
        if not isinstance(content, Mapping):
            raise ValueError(f"{path or 'the file'} must be a mapping (key: value), got {content!r}")
        self._content, self._path = dict(content), path

    def key(self, name: str) -> str:
        """Path of a key."""
        return f"{self._path}.{name}" if self._path else name

    def __contains__(self, name: str) -> bool:
        return name in self._content

    def keys(self) -> list[str]:
        """Keys that were not taken yet, which must be names."""
        for key in self._content:
            if not isinstance(key, str):
                raise ValueError(f"{self.key(str(key))}: a key must be text, got {key!r}; put it into quotes")
        return list(self._content)

    def take(self, name: str, default: Any = None) -> Any:
        """A value as it is."""
        return self._content.pop(name, default)

    def finish(self) -> None:
        """Raise for keys that nobody asked for."""
        if self._content:
            raise ValueError(f"{self.key(str(next(iter(self._content))))} is no key of a study; remove or correct it")

    def mapped(self, name: str) -> Mapped:
        """A mapping; empty where there is none."""
        return Mapped(self.take(name, {}), self.key(name))

    def text(self, name: str, default: str | None = None, *, choices: Sequence[str] = ()) -> str | None:
        """A text, one of ``choices`` if these are given."""
        if name not in self:
            return default
        value = self.take(name)
        if not isinstance(value, str) or (not value.strip() and not choices):
            raise ValueError(f"{self.key(name)} must be text, got {value!r}; put it into quotes")
        if choices and value not in choices:
            raise ValueError(f"{self.key(name)} must be one of {', '.join(choices)}, got {value!r}")
        return value

    def whole(self, name: str, default: int | None = None, *, least: int = 0) -> int | None:
        """A whole number."""
        if name not in self:
            return default
        value = self.take(name)
        if type(value) is not int or value < least:
            raise ValueError(f"{self.key(name)} must be a whole number of at least {least}, got {value!r}")
        return value

    def number(self, name: str) -> float:
        """A number above 0."""
        value = self.take(name)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise ValueError(f"{self.key(name)} must be a number above 0, got {value!r}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.key(name)} must be true or false, got {value!r}")
        return value

    def names(
        self, name: str, default: tuple[str, ...] | None = (), *, choices: Sequence[str] = ()
    ) -> tuple[str, ...] | None:
        """A list of different names, which may stand in names of files."""
        if name not in self:
            return default
        found = text_items(self.take(name), self.key(name))
        for index, item in enumerate(found):
            check_name(item, f"{self.key(name)}[{index}]", choices)
        return found

    def each(self, read: Callable[[Mapped, str], Any]) -> dict[str, Any]:
        """All values that are left, by key."""
        return {key: read(self, key) for key in self.keys()}


def text_items(value: Any, path: str) -> tuple[str, ...]:
    """A list of different texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{path} must be a list of names, such as [one, two], got {value!r}")
    if twice := sorted({item for item in value if value.count(item) > 1}):
        raise ValueError(f"{path} has {twice[0]} twice; leave one")
    return tuple(value)


def check_name(text: str, path: str, choices: Sequence[str] = ()) -> None:
    """Raise for a name that is none of ``choices``, or that cannot stand in the name of a file."""
    if choices and text not in choices:
        raise ValueError(f"{path} must be one of {', '.join(choices)}, got {text!r}")
    if not _NAME.fullmatch(text):
        raise ValueError(f"{path} must be of letters, digits, '-', '_' and '.', got {text!r}")
