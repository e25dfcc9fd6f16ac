"""Write small text files so that a reader, or a kill, never finds a part of one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["write_json", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Write a file: whoever looks finds the old content or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # other commands may write the same file
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in the same way."""
    write_text(path, json.dumps(content, indent=2) + "\n")
