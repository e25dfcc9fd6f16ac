"""Names in plans.json: what of them nnU-Net imports and calls, looked up and checked before anything is called.

plans.json comes with a model folder, from wherever that comes from, and is code: nnU-Net imports the network's class,
its operators and what preprocesses, resamples, reads and labels by the names in it, and calls them with the arguments
in it. Operators and networks must be modules of ``torch.nn``, nnU-Net or dynamic_network_architectures; everything else
must lie where nnU-Net keeps its own of that kind.
"""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dynamic_network_architectures
import nnunetv2
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ImageNormalization
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_stochastic.io.schemas import Configuration
from nnunet_stochastic.io.text import check_content

__all__ = ["check_configuration_names", "find_label_manager", "find_reader_writer", "read_configuration"]

_NETWORKS = ("torch.nn", "nnunetv2", "dynamic_network_architectures")
_TRUST = "if you know where this folder comes from, predict with --trust_checkpoint"


def find_reader_writer(place: str, name: Any) -> type[BaseReaderWriter]:
    """nnU-Net's reader and writer of a name.

    Parameters
    ----------
    place
        File and key, for the message.
    name
        Of the class.

    Raises
    ------
    ValueError
        nnU-Net has no such class.
    """
    return _own(place, name, "imageio", BaseReaderWriter, trust=False)


def find_label_manager(place: str, name: Any, *, trust: bool = False) -> type[LabelManager]:
    """nnU-Net's label manager of a name; the rest as for ``find_reader_writer``."""
    return _own(place, name, "utilities.label_handling", LabelManager, trust=trust)


def check_configuration_names(place: str, configuration: Mapping[str, Any], *, trust: bool = False) -> None:
    """Look up what a configuration names.

    Parameters
    ----------
    place
        File and key of the configuration, for messages.
    configuration
        Its entries, inheritance resolved.
    trust
        True to allow networks and operators from anywhere, as the checkpoint's ``--trust_checkpoint`` says.

    Raises
    ------
    ValueError
        A name that cannot be found, or is of something that could run code.
    """
    preprocessor, schemes = configuration["preprocessor_name"], configuration["normalization_schemes"]
    _own(f"{place}: preprocessor_name", preprocessor, "preprocessing", DefaultPreprocessor, trust=trust)
    for scheme in schemes:
        _own(f"{place}: normalization_schemes", scheme, "preprocessing.normalization", ImageNormalization, trust=trust)
    for key in ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities"):
        _own(f"{place}: {key}", configuration[key], "preprocessing.resampling", None, trust=trust)

    architecture = configuration["architecture"]
    arguments = architecture["arch_kwargs"]
    for key in architecture["_kw_requires_import"]:
        if key not in arguments:
            raise ValueError(f"{place}: architecture._kw_requires_import names {key}, which arch_kwargs lacks")
        if arguments[key] is not None:
            _network(f"{place}: architecture.arch_kwargs.{key}", arguments[key], trust=trust)
    _network(f"{place}: architecture.network_class_name", architecture["network_class_name"], trust=trust, moved=True)


def read_configuration(
    plans_file: Path, plans_manager: PlansManager, name: str, *, trust: bool = False
) -> ConfigurationManager:
    """A configuration of the plans, and what it names looked up before anything of it is called."""
    if name not in plans_manager.available_configurations:
        raise ValueError(
            f"{plans_file}: configurations: there is no {name}, only "
            f"{', '.join(plans_manager.available_configurations) or 'none'}; restore the plans of the training"
        )
    place = f"{plans_file}: configurations.{name}"
    try:
        manager = plans_manager.get_configuration(name)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # plans of an old format, which nnU-Net converts
        raise ValueError(f"{place} cannot be read: {error}; restore the plans of the training") from error
    check_content(place, manager.configuration, Configuration, remedy="restore the plans of the training")
    dimension = len(manager.patch_size)
    if len(manager.spacing) != dimension or len(manager.use_mask_for_norm) != len(manager.normalization_schemes):
        raise ValueError(
            f"{place}: patch_size and spacing must be equally long, and normalization_schemes and use_mask_for_norm; "
            "restore the plans of the training"
        )
    check_configuration_names(place, manager.configuration, trust=trust)
    return manager


def _network(place: str, name: Any, *, trust: bool, moved: bool = False) -> None:
    """Look up the class of a network or operator by its dotted name, as nnU-Net does."""
    if not isinstance(name, str):
        raise ValueError(f"{place} must be the name of a class, got {str(name)[:60]!r}")
    # The name first: looking it up imports its module, which runs what stands there.
    if not trust and not _lies_in(name, _NETWORKS):
        raise ValueError(f"{place} is {name[:80]!r}, none of {', '.join(_NETWORKS)}, and could run code; {_TRUST}")
    try:
        found = pydoc.locate(name)
    except pydoc.ErrorDuringImport as error:
        raise ValueError(f"{place}: {name} cannot be imported: {error.value}") from error
    if found is None and moved:
        folder = Path(dynamic_network_architectures.__path__[0]) / "architectures"
        package = "dynamic_network_architectures.architectures"
        found = recursive_find_python_class(str(folder), name.split(".")[-1], package)
    if found is None:
        raise ValueError(f"{place}: there is no {name[:80]}; install what defines it, or correct the plans")
    if trust:
        return
    if not (inspect.isclass(found) and issubclass(found, nn.Module) and _lies_in(found.__module__, _NETWORKS)):
        raise ValueError(f"{place}: {name[:80]} is no module of {', '.join(_NETWORKS)}, and could run code; {_TRUST}")


def _own(place: str, name: Any, package: str, base: type | None, *, trust: bool) -> Any:
    """Look up a class, or with ``base`` None a function, in a package of nnU-Net, as nnU-Net does."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{place} must be a name of nnU-Net's, got {str(name)[:60]!r}")
    module = f"nnunetv2.{package}"
    found = recursive_find_python_class(str(Path(nnunetv2.__path__[0], *package.split("."))), name, module)
    if found is None:
        raise ValueError(f"{place}: {module} has no {name[:80]}; install what defines it, or correct the file")
    is_kind = inspect.isfunction(found) if base is None else inspect.isclass(found) and issubclass(found, base)
    # What its modules have imported is found too, and is called as well.
    if is_kind and (trust or _lies_in(found.__module__, (module,))):
        return found
    wanted = "function" if base is None else base.__name__
    raise ValueError(f"{place}: {name[:80]} is no {wanted} of {module}, and could run code; correct the file")


def _lies_in(name: str, packages: tuple[str, ...]) -> bool:
    return name.startswith(tuple(f"{package}." for package in packages)) or name in packages
