"""Whether new images were predicted as the validation images were, whose numbers decisions were fitted to.

Conformal intervals and all other decisions hold for exchangeable images, so for predictions that came about alike: by
the same weights, members and samples, with lesions of the same least volume. The records of both predictions say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_stochastic.io.result_schemas import PredictionRecord
from nnunet_stochastic.io.text import read_json
from nnunet_stochastic.recorded_settings import FREE_SETTINGS, differences

__all__ = ["check_predicted_alike", "deciding_settings"]

# Another seed draws other samples of the same distribution, and digits change the last of a number alone.
_FREE = FREE_SETTINGS | {"seed", "map_digits"}
_OF_LESIONS = ("lesions", "min_lesion_ml")
_SHOWN = 3


def deciding_settings(prediction_folder: Path) -> dict[str, Any]:
    """Settings that decide the numbers of a prediction; nothing where the folder has no record."""
    path = prediction_folder / "uncertainty.json"
    settings = read_json(path, PredictionRecord, remedy="predict again").get("settings", {}) if path.is_file() else {}
    return {name: value for name, value in settings.items() if name not in _FREE}


def check_predicted_alike(prediction_folder: Path, validation: Mapping[str, Any] | None, calibration: Path) -> None:
    """Require that new images were predicted as the validation images were.

    Parameters
    ----------
    prediction_folder
        Predictions of the new images. Lesions may be of fewer structures than there.
    validation
        What ``deciding_settings`` said of the validation images.
    calibration
        File that says it, for the message.

    Raises
    ------
    ValueError
        A setting differs, or the calibration does not say what the settings were.
    """
    if validation is None:
        raise ValueError(
            f"{calibration} does not say how the validation images were predicted, it is of an earlier version: make "
            "it again with nnunet_stochastic_determine_calibration"
        )
    here = deciding_settings(prediction_folder)
    # Of no effect with the exact estimator.
    number = {"num_samples"} if here.get("estimator") == validation.get("estimator") == "exact" else set()
    found = differences(here, validation, free={*_OF_LESIONS, *number})
    lesions, known = here.get("lesions", []), validation.get("lesions", [])
    if lesions:
        if set(lesions) - set(known):
            found.append(("lesions", " ".join(lesions), " ".join(known) or "none"))
        else:
            found += differences(*({"min_lesion_ml": each.get("min_lesion_ml", 0.0)} for each in (here, validation)))
    if found:
        told = [f"{name} is {mine} and was {theirs}" for name, mine, theirs in found[:_SHOWN]]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ValueError(
            f"{prediction_folder} is predicted otherwise than the validation images of {calibration}: "
            f"{'; '.join(told)}{more}; predict with the settings of these, or make the calibration again for other ones"
        )
