"""Weights that were made before, in a temporary folder: read in milliseconds, while memory holds one set at a time.

A checkpoint holds much besides the weights, and a draw of SWAG reads all snapshots: done for every member and image,
either takes longer than a small image. What is made for the first time may stay the only time: it is not written.

    TMPDIR/nnunet_stochastic_weights_abc/lock    locked as long as the process lives
    TMPDIR/nnunet_stochastic_weights_abc/0.raw

A file is the bytes of the tensors of ``state_dict``, one after the other: a network has hundreds of them, and to
unpickle each takes longer than to copy them all.

A process that is killed leaves its folder, and the next one removes it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from collections.abc import Hashable
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from tqdm import tqdm

__all__ = ["WeightCache", "remove_dead_caches"]

_PREFIX = "nnunet_stochastic_weights_"
#: Bytes, a multiple of the size of every type.
_ALIGNMENT = 64


class WeightCache:
    """Keeps weights as long as there is room in the temporary folder; without, they are made anew each time."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._files: dict[Hashable, Path | None] = {}
        self._has_room = True

    def __reduce__(self) -> tuple[type[WeightCache], tuple[()]]:
        return WeightCache, ()  # a copy has none of the files, which go when this one does

    def restore(self, weights: Hashable, network: nn.Module) -> bool:
        """Put the weights into the network; False where they are not kept."""
        path = self._files.get(weights)
        if path is None:
            return False
        try:
            _read(path, network)
        except (OSError, ValueError) as error:  # somebody tidied the temporary folder up, or the file is cut
            self._give_up(error)
            return False
        return True

    def note(self, weights: Hashable, network: nn.Module) -> None:
        """The network has been given these weights: keep them, if it is not for the first time and they are tensors."""
        if weights not in self._files:
            self._files[weights] = None
            return
        if not self._has_room or not all(isinstance(value, Tensor) for value in network.state_dict().values()):
            return
        try:
            if self._folder is None:
                self._folder = self._make_folder()
            number = sum(path is not None for path in self._files.values())
            path = self._folder / f"{number}.raw"
            _write(network, path)
        except OSError as error:
            self._give_up(error)
            return
        self._files[weights] = path

    def _make_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
        lock = FileLock(folder / "lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
            # Only now by its name: a process that looks for folders without an owner must not find it unlocked.
            named = folder.rename(folder.with_name(folder.name[1:]))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(self, _remove, named, lock)
        return named

    def _give_up(self, error: Exception) -> None:
        self._has_room = False
        self._files = dict.fromkeys(self._files)
        where = "the temporary folder" if self._folder is None else self._folder.parent
        if self._folder is not None:
            for path in self._folder.glob("*.raw"):
                path.unlink(missing_ok=True)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        tqdm.write(
            f"note: weights of members cannot be kept in {where} ({reason}): they are made again for each image, which "
            "is slower; TMPDIR names another folder",
            file=sys.stderr,
        )


def _tensors(network: nn.Module) -> list[tuple[Tensor, int]]:
    """The tensors of the network's state, and where in its file each one starts."""
    found, start = [], 0
    for tensor in network.state_dict().values():
        found.append((tensor, start))
        start += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
    return found


def _write(network: nn.Module, path: Path) -> None:
    with path.open("wb") as file:
        for tensor, start in _tensors(network):
            file.write(bytes(start - file.tell()))
            file.write(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)


@torch.no_grad()
def _read(path: Path, network: nn.Module) -> None:
    kept = np.memmap(path, np.uint8, mode="c")  # not written to, but torch warns of what is read-only
    for tensor, start in _tensors(network):
        if count := tensor.numel():
            tensor.copy_(torch.frombuffer(kept, dtype=tensor.dtype, count=count, offset=start).view(tensor.shape))


def remove_dead_caches() -> None:
    """Remove the folders whose processes have ended without doing so."""
    try:
        folders = sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))
    except OSError:
        return
    for folder in folders:
        if not (folder / "lock").is_file():
            continue
        lock = FileLock(folder / "lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError, NotImplementedError):  # alive, or another user's
            continue
        _remove(folder, lock)


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)  # Windows removes no locked file
