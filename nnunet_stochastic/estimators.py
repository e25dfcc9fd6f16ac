"""Names of the ways in which the moments of a member's samples are taken; ``inference`` says what they do."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["ESTIMATORS", "Estimator"]

#: ``auto``: exact where it exists, else mc. ``exact``: by quadrature. ``mc``: stratified or antithetic samples that all
#: members share. ``plug_in``: independent samples of each member.
Estimator = Literal["auto", "exact", "mc", "plug_in"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
