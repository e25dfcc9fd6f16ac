"""Options of a model: keyword arguments of the class that builds it, attributes of its trainer's class.

nnU-Net stores no more of a trainer than its name, so an option is a class attribute, and another value of it is a
subclass of another name. Heads and networks say in their signature what their options are and where these start; a
trainer that names such a class has each of them as an attribute, with the same default.

A public attribute of a trainer base of this package whose value is a number, a text, a flag, a tuple or None is an
option; names in capitals are none.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

__all__ = ["adopt_options", "chosen_options", "options_of"]


def adopt_options(trainer_class: type, build: Callable[..., object]) -> None:
    """Give a trainer's class the default of every option of ``build`` that it has no attribute for."""
    for name, default in _defaults(build).items():
        if not hasattr(trainer_class, name):
            setattr(trainer_class, name, default)


def chosen_options(trainer_class: type, build: Callable[..., object]) -> dict[str, Any]:
    """The options of ``build`` by name, as the trainer's class has them."""
    return {name: getattr(trainer_class, name) for name in _defaults(build)}


def options_of(trainer: Any) -> dict[str, Any]:
    """All options of a trainer or its class by name, with their values there; those of the most general base first."""
    trainer_class = trainer if isinstance(trainer, type) else type(trainer)
    names: dict[str, None] = {}
    for base in reversed(trainer_class.__mro__):
        if base.__module__.partition(".")[0] == __name__.partition(".")[0]:
            names |= {name: None for name, value in vars(base).items() if _is_option(name, value)}
    for built in ("heads_class", "network_class"):  # of a class elsewhere, which has adopted them
        names |= dict.fromkeys(_defaults(getattr(trainer_class, built))) if hasattr(trainer_class, built) else {}
    return {name: getattr(trainer, name) for name in names}


def _is_option(name: str, value: object) -> bool:
    return not name.startswith("_") and name.islower() and isinstance(value, int | float | str | tuple | None)


def _defaults(build: Callable[..., object]) -> dict[str, Any]:
    """The keyword-only arguments that have a default."""
    parameters = signature(build).parameters.values()
    return {
        each.name: each.default
        for each in parameters
        if each.kind is Parameter.KEYWORD_ONLY and each.default is not Parameter.empty
    }
