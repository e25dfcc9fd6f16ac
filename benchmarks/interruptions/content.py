"""What a command has written, as far as it must not depend on interruptions; and damage to it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

__all__ = ["contents", "damage_newest"]

#: Files in which undisturbed runs differ: logs, the time each epoch took, the machine.
_PASSED_OVER = (".log", ".lock", "debug.json", "progress.png")
_PAGE = 4096


def contents(folder: Path, parts: Iterable[str] = ()) -> dict[str, str]:
    """Digest of each file of a folder, or of parts of it, by its path in there."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    found = {path.relative_to(folder).as_posix(): path for path in files}
    chosen = tuple(parts)
    return {
        name: _digest(path)
        for name, path in found.items()
        if not _is_passed_over(path) and (not chosen or name.startswith(chosen))
    }


def _is_passed_over(path: Path) -> bool:
    return path.name.endswith(_PASSED_OVER) or path.name.startswith("training_log")


def _digest(path: Path) -> str:
    read = {".pth": _checkpoint, ".b2nd": _preprocessed, ".json": _record_of_files}.get(path.suffix, Path.read_bytes)
    try:
        return sha256(read(path)).hexdigest()
    except Exception:  # of any library, for a damaged file that was kept
        return f"not readable: {sha256(path.read_bytes()).hexdigest()}"


def _checkpoint(path: Path) -> bytes:
    import torch

    return b"".join(_flat(torch.load(path, map_location="cpu", weights_only=False)))


def _preprocessed(path: Path) -> bytes:
    """Voxels: the threads of Blosc2 write its blocks in the order in which they are done."""
    import blosc2

    return blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1})[...].tobytes()  # no threads before a fork


def _record_of_files(path: Path) -> bytes:
    """A record without what it says of such files' bytes."""
    content = json.loads(path.read_bytes())
    if isinstance(content, dict) and {"sizes", "sha256"} <= content.keys():
        return json.dumps(content | {"sizes": None, "sha256": None}).encode()
    return path.read_bytes()


def _flat(content: object) -> Iterator[bytes]:
    """Bytes of what a checkpoint holds, but of times."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if "timestamp" not in str(key):
                yield str(key).encode()
                yield from _flat(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _flat(value)
    elif hasattr(content, "numpy"):
        yield content.detach().contiguous().numpy().tobytes()  # type: ignore[attr-defined]
    else:
        yield repr(content).encode()


def damage_newest(folder: Path, random_numbers: random.Random) -> tuple[Path, str] | None:
    """Leave the newest file of those that are at their places as a power cut may; which, and how."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    placed = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    placed = [path for path in placed if path.stat().st_size > 0 and not _is_passed_over(path)]
    if not placed:
        return None
    newest = max(placed, key=lambda path: path.stat().st_mtime_ns)
    whole = newest.read_bytes()
    kind = random_numbers.choice(["empty", "cut", "with a page of zeros"])
    at = random_numbers.randrange(len(whole))
    page = at // _PAGE * _PAGE
    zeroed = whole[:page] + bytes(min(_PAGE, len(whole) - page)) + whole[page + _PAGE :]
    newest.write_bytes({"empty": b"", "cut": whole[:at], "with a page of zeros": zeroed}[kind])
    return newest, kind
