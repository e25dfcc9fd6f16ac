"""Options of a model: keyword arguments of the class that builds it, attributes of its trainer's class.

nnU-Net stores no more of a trainer than its name, so an option is a class attribute, and another value of it is a
subclass of another name. Heads and networks say in their signature what their options are and where these start; a
trainer that names such a class has each of them as an attribute, with the same default.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

__all__ = ["adopt_options", "chosen_options"]


def adopt_options(trainer_class: type, build: Callable[..., object]) -> None:
    """Give a trainer's class the default of every option of ``build`` that it has no attribute for."""
    for name, default in _defaults(build).items():
        if not hasattr(trainer_class, name):
            setattr(trainer_class, name, default)


def chosen_options(trainer_class: type, build: Callable[..., object]) -> dict[str, Any]:
    """The options of ``build`` by name, as the trainer's class has them."""
    return {name: getattr(trainer_class, name) for name in _defaults(build)}


def _defaults(build: Callable[..., object]) -> dict[str, Any]:
    """The keyword-only arguments that have a default."""
    parameters = signature(build).parameters.values()
    return {
        each.name: each.default
        for each in parameters
        if each.kind is Parameter.KEYWORD_ONLY and each.default is not Parameter.empty
    }
