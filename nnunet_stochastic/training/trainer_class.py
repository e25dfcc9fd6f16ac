"""The trainer of a name, as nnU-Net finds it, without importing all that nnU-Net has.

nnU-Net looks in its own modules first, then in the folders of ``nnUNet_extTrainer``, and imports one module after the
other until one has the name: for a trainer that is none of its own, every trainer of nnU-Net with all that these
import. Here modules of nnU-Net are passed over whose source does not have the name.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nnunetv2.training.nnUNetTrainer
from nnunetv2.paths import nnUNet_extTrainer
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

__all__ = ["find_trainer_class"]


def find_trainer_class(name: str) -> type[nnUNetTrainer]:
    """The class that nnU-Net trains with when asked for a trainer of this name.

    Parameters
    ----------
    name
        As after ``-tr``.

    Raises
    ------
    ValueError
        There is none, in nnU-Net's words, or what has the name is no trainer.
    """
    package = nnunetv2.training.nnUNetTrainer
    found: Any = next(_of_package(Path(package.__path__[0]), package.__name__, name), None)
    if found is None:
        try:
            found = next(_of_folders(name), None)
        except Exception:  # a module may need what nnU-Net has imported by then; if not, nnU-Net says what is wrong
            found = None
    if found is None:
        try:
            found = recursive_find_trainer_class_by_name(name)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(str(error)) from error
    if not (inspect.isclass(found) and issubclass(found, nnUNetTrainer)):
        raise ValueError(f"{name} is no trainer of nnU-Net")
    return found


def _of_package(folder: Path, package: str, name: str) -> Iterator[Any]:
    """What has the name in the modules of nnU-Net, in its order: those of a folder before those of folders in it."""
    modules = list(pkgutil.iter_modules([str(folder)]))
    for _, module, is_package in modules:
        source = folder / f"{module}.py"
        if is_package or (source.is_file() and name.encode() not in source.read_bytes()):
            continue
        found = getattr(importlib.import_module(f"{package}.{module}"), name, None)
        if found is not None:
            yield found
    for _, module, is_package in modules:
        if is_package:
            yield from _of_package(folder / module, f"{package}.{module}", name)


def _of_folders(name: str) -> Iterator[Any]:
    """What has the name in the folders of ``nnUNet_extTrainer``, whose modules do not stay imported."""
    folders = nnUNet_extTrainer.get().split(os.pathsep) if nnUNet_extTrainer.is_set() else []
    for folder in folders:
        if not (folder.strip() and Path(folder).exists()):
            continue
        found = recursive_find_python_class(
            folder, name, None, base_folder=folder, cleanup_imports_from_base_folder=True
        )
        if found is not None:
            yield found
