"""What a file holds, as a short text that another content does not have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["content_sha256", "file_sha256", "file_states"]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_sha256(content: Any) -> str:
    """SHA-256 of JSON content, whatever the order of its keys, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_states(files: Iterable[Path]) -> list[list[Any]]:
    """Name, size in bytes and time of change in ns of each file: differ when it has changed, and it is not read."""
    states = ((file, file.stat()) for file in files)
    return [[file.name, state.st_size, state.st_mtime_ns] for file, state in states]
