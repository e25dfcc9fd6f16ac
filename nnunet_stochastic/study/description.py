"""What is to be studied: datasets x aleatoric x epistemic x seeds, less the combinations that are left out.

``reading`` makes it of a file, ``checks`` compares it with what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS, EPISTEMIC_OPTIONS

__all__ = [
    "CORRUPTIONS",
    "KINDS",
    "PREDICT_OPTIONS",
    "Aleatoric",
    "Dataset",
    "Study",
]

KINDS = ("convert", "plan", "sets", "train", "predict", "calibrate", "evaluate", "compare", "report")
CORRUPTIONS = ("blur", "noise", "contrast", "jpeg", "low_resolution", "ghosting", "bias_field")
#: Option of nnunet_stochastic_predict that each key of ``predict`` is.
PREDICT_OPTIONS = {
    **{name: f"--{name}" for name in ("num_samples", "save_samples", "seed")},
    **{option.name: f"--{option.name}" for option in EPISTEMIC_OPTIONS},
    **{
        name: f"--{name}"
        for name in ("aleatoric", "estimator", "tiles_and_views", "disable_tta", "not_on_device", "trust_checkpoint")
    },
    **{name: f"-{name}" for name in ("step_size", "npp", "nps", "chk")},
}


@dataclass(frozen=True)
class Aleatoric:
    """An aleatoric model: its name in the results, in the trainer's name, and predict options of its own."""

    name: str
    trainer: str
    predict: Mapping[str, Any]


@dataclass(frozen=True)
class Dataset:
    """A dataset and what is studied on it.

    Attributes
    ----------
    dataset
        Name DatasetNNN_Name, or DatasetNNN where the file has the number alone.
    convert
        Command that makes it, or None.
    configuration, plans, planner
        Names in nnU-Net; the planner is None where the default one makes the plans.
    overwrite_plans_name
        Whether the planner would call its plans otherwise.
    raters
        Whether there are several raters.
    corruptions, ood
        The sets out of distribution.
    ace
        Which ACE ranks the calibration, ``per_image`` or ``dataset``; None: that of the convention.
    aleatoric, epistemic, excluded
        The models; ``excluded`` are pairs of names.
    seeds
        Number S of trainings of each model, at least 1; seed s is fold s.
    trainer, start_from
        Pattern of the trainers' names; the trainer whose checkpoints they start from, or None.
    predict, minutes
        Options of the predictions; the user's guess of the minutes that a job of a kind takes.
    """

    dataset: str
    convert: str | None
    configuration: str
    plans: str
    planner: str | None
    overwrite_plans_name: bool
    raters: bool
    corruptions: tuple[str, ...]
    ood: tuple[str, ...]
    ace: str | None
    aleatoric: tuple[Aleatoric, ...]
    epistemic: tuple[str, ...]
    excluded: frozenset[tuple[str, str]]
    seeds: int
    trainer: str
    start_from: str | None
    predict: Mapping[str, Any]
    minutes: Mapping[str, float]

    @property
    def models(self) -> tuple[tuple[Aleatoric, str], ...]:
        """The combinations that are studied, (aleatoric, epistemic)."""
        product = ((model, method) for model in self.aleatoric for method in self.epistemic)
        return tuple((model, method) for model, method in product if (model.name, method) not in self.excluded)

    def trainer_of(self, model: Aleatoric, method: str) -> str:
        """Name of the trainer of a combination; one training run serves all methods that can share it."""
        suffix = EPISTEMIC_METHODS[method].trainer_suffix
        if not suffix:
            studied = (EPISTEMIC_METHODS[way] for other, way in self.models if other.trainer == model.trainer)
            suffix = next((other.trainer_suffix for other in studied if other.trains_the_same), "")
        return self.trainer.format(aleatoric=model.trainer, epistemic=suffix)


@dataclass(frozen=True)
class Study:
    """A study, see the module.

    Attributes
    ----------
    file, name
        The YAML file; the title of the report.
    output
        Folder for everything but nnU-Net's own.
    device
        Device on which networks run: cuda, cpu or mps.
    trainers
        Folder with more trainers, or None.
    convention, evaluate_processes, viewer_cases
        Preset of the evaluations, number of processes of each (None: one), and number of cases in the page's viewer.
    variables, resources
        Environment variables (``all``: of every kind), and what Snakemake is told, by kind of job.
    datasets
        Datasets, at least one.
    """

    file: Path
    name: str
    output: Path
    device: str
    trainers: Path | None
    convention: str
    evaluate_processes: int | None
    viewer_cases: int
    variables: Mapping[str, Mapping[str, str]]
    resources: Mapping[str, Mapping[str, int | str]]
    datasets: tuple[Dataset, ...]

    @property
    def folder(self) -> Path:
        """Where commands run, and what relative paths are relative to."""
        return self.file.parent

    def resource(self, kind: str, name: str) -> int:
        """``threads`` or ``gpu`` of a kind of job."""
        default = int(name == "threads" or (self.device == "cuda" and kind in ("train", "predict")))
        if name == "threads" and kind in ("calibrate", "evaluate") and self.evaluate_processes is not None:
            default = self.evaluate_processes
        return int(self.resources.get(kind, {}).get(name, default))
