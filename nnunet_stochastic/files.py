"""Write small text files so that a reader, or a kill, never finds a part of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

__all__ = ["replacing", "write_json", "write_text"]


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file to write, which takes the place of ``path`` when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # other commands may write the same file
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            yield stream
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file: whoever looks finds the old content or the new."""
    with replacing(path) as stream:
        stream.write(text)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in the same way."""
    write_text(path, json.dumps(content, indent=2) + "\n")
