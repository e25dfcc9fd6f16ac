"""The model card of a trained model, in Markdown: what its files say, and marked fields for what none of them does.

After Mitchell et al., Model Cards for Model Reporting, https://arxiv.org/abs/1810.03993: data, training, evaluation,
intended use and limits of a model on one page. The text is the template model_card.md beside this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nnunet_stochastic.evaluation import Calibration
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.scores import ALL_CLASSES
from nnunet_stochastic.evaluation.tasks import DECISIONS

__all__ = ["check_calibration_of_model", "check_described_model", "model_card"]

_TEMPLATE = "model_card.md"
#: Signs by which Markdown would make something else of a text.
_SIGNS = re.compile(r"([\\`*\[\]<>|#])")


def model_card(
    model: Mapping[str, Any],
    *,
    versions: Mapping[str, str],
    calibration: Calibration | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> str:
    """The card.

    Parameters
    ----------
    model
        Fields of an ``inference.trained_folder.TrainedFolder``, all the way down.
    versions
        Versions of the libraries that the card is made with, by name.
    calibration
        Calibration of the model; ``check_calibration_of_model`` has found it to be.
    evaluation
        Content of summary.json of an evaluation of the model.
    """
    environment = Environment(
        loader=PackageLoader("nnunet_stochastic.report", "."),
        autoescape=False,  # HTML's; ``_as_text`` is Markdown's
        undefined=StrictUndefined,
        finalize=_as_text,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    labels = model["dataset_json"]["labels"]
    results = {} if evaluation is None else evaluation["results"]
    annotations = "raters" if "raters" in results else "reference"
    decided = None if evaluation is None else evaluation["tasks"].get(DECISIONS.name)
    return environment.get_template(_TEMPLATE).render(
        model=model,
        structures={name: label for name, label in labels.items() if label != 0},
        channels=list((model["dataset_json"].get("channel_names") or model["dataset_json"]["modality"]).values()),
        versions=versions,
        calibration=None if calibration is None else calibration.content,
        decisions=None if calibration is None else calibration.decisions,
        evaluation=evaluation,
        annotations=annotations,
        results=[(name, found) for name, found in results.get(annotations, {}).items() if name != ALL_CLASSES],
        judged=None if decided is None else decided.get(ID),
    )


def check_calibration_of_model(calibration: Calibration, model: Mapping[str, Any], path: Path) -> None:
    """Raise ``ValueError`` for a calibration of another model, or of other weights, as far as it says.

    Parameters
    ----------
    calibration, path
        The calibration, and its file for the message.
    model
        As for ``model_card``.
    """
    check_described_model(calibration.model or {}, model, path)
    hashes = {fold["name"]: set(fold["sha256"].values()) for fold in model["folds"]}
    for fold, used in ((calibration.settings or {}).get("checkpoints") or {}).items():
        if used.get("sha256") is not None and used["sha256"] not in hashes.get(fold, set()):
            raise ValueError(
                f"{path} was made with other weights of {fold} than -m has: make it again, or name that of this model"
            )


def check_described_model(described: Mapping[str, Any], model: Mapping[str, Any], path: Path) -> None:
    """Raise ``ValueError`` for a file that was made from predictions of another model.

    Parameters
    ----------
    described
        What the file says of the model, ``evaluation.describe_model``.
    model, path
        As for ``check_calibration_of_model``.
    """
    for key in ("dataset", "trainer", "plans", "configuration"):
        if described.get(key) not in (None, model[key]):
            raise ValueError(
                f"{path} is of the {key} {described[key]}, and -m of {model[key]}: name that of this model"
            )


def _as_text(value: Any) -> str:
    """A value as Markdown that shows it: numbers short, one line, signs of Markdown escaped."""
    if value is None:
        return "not known"
    if isinstance(value, float):
        return f"{value:.4g}"
    return _SIGNS.sub(r"\\\1", re.sub(r"\s+", " ", str(value)))
