"""A look at the weights of ``-pretrained_weights`` before nnU-Net copies them.

nnU-Net loads them from outside of the trainer, into its network, and asserts for one weight after the other that the
file has it. It asks the network for its weights first: a hook there can say what is wrong with the file as a whole.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from torch import nn

__all__ = ["check_pretrained_weights"]

#: Of weights that nnU-Net never takes from the file.
_NOT_TAKEN = ".seg_layers."


def check_pretrained_weights(network: nn.Module, trainer_name: str, remedy: str) -> None:
    """From now on raise ``ValueError`` where nnU-Net is about to load weights that the network cannot take.

    Parameters
    ----------
    network
        Network of a trainer, without wrappers around it.
    trainer_name
        Name of the trainer, for the message.
    remedy
        Advice what to do, for the message.
    """

    checking = False

    def check(module: nn.Module, prefix: str, keep_vars: bool) -> None:
        nonlocal checking
        loading = None if checking else _frame_of_loading()
        if loading is None:
            return
        checking = True  # this function asks for the weights, too
        try:
            own = module.state_dict()
        finally:
            checking = False
        file, given = loading
        wanted = {name: weight for name, weight in own.items() if _NOT_TAKEN not in name}
        problems = [f"{name} is missing from the file" for name in wanted if name not in given]
        problems += [
            f"{name} is {tuple(given[name].shape)} in the file, {tuple(weight.shape)} here"
            for name, weight in wanted.items()
            if name in given and given[name].shape != weight.shape
        ]
        if problems:
            raise ValueError(
                f"-pretrained_weights {file} does not fit the network of {trainer_name} ({len(problems)} weights, such "
                f"as {problems[0]}); {remedy}"
            )

    network.register_state_dict_pre_hook(check)


def _frame_of_loading() -> tuple[Any, Mapping[str, Any]] | None:
    """File and weights, if nnU-Net is loading now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is load_pretrained_weights.__code__:
            given = frame.f_locals.get("pretrained_dict")
            return (frame.f_locals.get("fname"), given) if isinstance(given, Mapping) else None
        frame = frame.f_back
    return None
