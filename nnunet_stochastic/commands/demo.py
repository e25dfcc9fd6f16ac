"""`nnunet_stochastic_demo`: the whole way from raw data to scored uncertainty maps, on a small example.

Every step is a command that works on one's own data just as well; it is printed as it can be typed, and its output goes
to a log file. The masks of the example are real (LIDC-IDRI, four radiologists per nodule), its images are simulated.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from nnunet_stochastic import discovery
from nnunet_stochastic.commands._errors import minutes, report_errors, say_total_time
from nnunet_stochastic.commands._flags import Number, add_disable_progress_bar, parse_arguments
from nnunet_stochastic.commands._steps import RECORD, Report, Step, assignment, run_steps, write_done_steps
from nnunet_stochastic.datasets.demo import DATASET_ID, DATASET_NAME, write_demo_dataset
from nnunet_stochastic.datasets.demo_plans import DEMO_CONFIGURATION, DEMO_PLANS, demo_plans
from nnunet_stochastic.io.output_locks import locked_output_folder
from nnunet_stochastic.io.schemas import DemoPlans
from nnunet_stochastic.io.staging import is_leftover
from nnunet_stochastic.io.text import read_json, write_text
from nnunet_stochastic.patients import PATIENTS_FILE

__all__ = ["main"]

SUBFOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "predictions", "logs")
REPORT = "report.html"
DETERMINISTIC_TRAINER = "nnUNetTrainerDemo"
STOCHASTIC_TRAINER = "nnUNetTrainerMoBDemo"
DURATION = "6 to 10 minutes on two idle CPU cores, longer where other programs use them"
NUM_SAMPLES = "16"  # whole segmentations per case, for the GED and the distribution of the volume


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_demo",
        description="Simulate CT images around real lung nodule masks by four radiologists (LIDC-IDRI), train a "
        "small nnU-Net on them, fine-tune it to predict a distribution over segmentations, predict uncertainty maps "
        "for unseen patients and score them. "
        f"It takes {DURATION}.",
        epilog="Steps that are done are skipped when the command is run again. Scores on simulated images say that the "
        "software works; they are not comparable with published results.",
    )
    parser.add_argument(
        "-o",
        type=Path,
        metavar="FOLDER",
        default=Path("nnunet_stochastic_demo"),
        help="output folder, for everything (default: %(default)s)",
    )
    parser.add_argument("--dataset_only", action="store_true", help="write the data set in nnU-Net's format and stop")
    parser.add_argument(
        "--dataset_into",
        type=Path,
        metavar="FOLDER",
        help="write the data set alone, and into this folder, such as that of $nnUNet_raw, in place of -o",
    )
    for part, total in (("train", 76), ("test", 24)):
        parser.add_argument(
            f"-num_{part}",
            type=Number(int, 1, total),
            metavar="N",
            help=f"number of cases to {part}, with --dataset_into (default: all {total})",
        )
    parser.add_argument(
        "-device",
        choices=("cpu", "cuda", "mps"),
        help="where networks run (default: cuda if there is one, else cpu)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier run left in -o")
    add_disable_progress_bar(parser)
    return parser


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status is 0 when every step succeeded."""
    arguments = parse_arguments(_parser(), argv)
    if arguments.dataset_into is not None:
        with locked_output_folder(arguments.dataset_into, option="--dataset_into"):
            dataset = write_demo_dataset(
                arguments.dataset_into, num_train=arguments.num_train, num_test=arguments.num_test, on_case=_print_case
            )
        print(f"real masks (LIDC-IDRI, CC BY 3.0) in simulated images: {dataset}")
        return 0
    if arguments.num_train is not None or arguments.num_test is not None:
        raise ValueError(
            "-num_train and -num_test are for --dataset_into; the demo itself takes all cases, so leave them out"
        )
    folder = arguments.o.resolve()
    with locked_output_folder(folder):  # its steps write into folders within
        _prepare_folder(folder, overwrite=arguments.overwrite)
        _run(folder, arguments)
    return 0


def _run(folder: Path, arguments: argparse.Namespace) -> None:
    variables = _variables(folder)
    steps = _steps(folder, device=arguments.device or _default_device())
    if arguments.dataset_only:
        steps = steps[:1]

    console = Console(highlight=False, soft_wrap=True, emoji=False)
    console.print("Lung nodules: the masks are real, drawn by four radiologists each (LIDC-IDRI, CC BY 3.0);")
    console.print("the CT images around them are simulated.\n")
    if not arguments.dataset_only:
        console.print(f"This takes {DURATION}.")
    console.print("To type the steps yourself, first set:")
    for variable in variables.items():
        console.print(f"  {escape(assignment(variable))}")
    console.print()
    start = time.monotonic()
    run_steps(steps, folder, os.environ | variables, console, show_progress=not arguments.disable_progress_bar)
    console.print(f"\nDone after {minutes(time.monotonic() - start)}. Look at:")
    for what, where in _results(folder, dataset_only=arguments.dataset_only):
        console.print(f"  {what:<34} {escape(str(where))}")


def _variables(folder: Path) -> dict[str, str]:
    """Environment variables of all steps; nothing is set outside this process and its children."""
    discovery.activate()
    variables = {name: str(folder / name) for name in SUBFOLDERS[:3]}
    variables[discovery.VARIABLE] = os.environ[discovery.VARIABLE]
    variables["nnUNet_def_n_proc"] = "1"  # starting a worker takes longer than the work it would take over
    variables["nnUNet_compile"] = "f"  # compiling takes longer than these few iterations
    # Threads that wait by spinning would take the cores from other programs, and those from these.
    variables["OMP_WAIT_POLICY"] = "PASSIVE"
    return variables


def _steps(folder: Path, *, device: str) -> list[Step]:
    raw = folder / "nnUNet_raw" / DATASET_NAME
    plans = folder / "nnUNet_preprocessed" / DATASET_NAME
    predictions = folder / "predictions"
    dataset = str(DATASET_ID)
    trained = ("-p", DEMO_PLANS, "-device", device)
    planning = ("--verify_dataset_integrity", "--no_pp", "-npfp", "1")
    model = ("-d", dataset, "-c", DEMO_CONFIGURATION, "-f", "0", "-tr", STOCHASTIC_TRAINER)
    files = ("--save_probabilities", "--save_samples", NUM_SAMPLES)
    references = (
        *("-gt", str(raw / "labelsTs"), "-gt_raters", str(raw / "ratersTs")),
        *("--groups", str(raw / PATIENTS_FILE), "--disable_progress_bar"),
    )

    def write_dataset(report: Report) -> None:
        if not raw.exists():  # it appears only when it is complete
            write_demo_dataset(raw.parent, on_case=lambda done, total: report(f"{done}/{total} images"))

    def write_plans(report: Report) -> None:
        small = demo_plans(read_json(plans / "nnUNetPlans.json", DemoPlans, remedy="start over with --overwrite"))
        write_text(plans / f"{DEMO_PLANS}.json", json.dumps(small, indent=4))

    def train(name: str, title: str, trainer: str) -> Step:
        return Step(
            name,
            title,
            ("nnUNetv2_train", dataset, DEMO_CONFIGURATION, "0", "-tr", trainer, *trained),
            # Augment in the training process; nnU-Net's planning does not accept this setting.
            (("nnUNet_n_proc_DA", "0"),),
        )

    return [
        Step(
            "dataset",
            f"simulate images around the real masks: {raw}",
            ("nnunet_stochastic_demo", "-o", str(folder), "--dataset_only"),
            action=write_dataset,
        ),
        Step(
            "plan",
            "let nnU-Net plan",
            ("nnUNetv2_plan_and_preprocess", "-d", dataset, "-c", DEMO_CONFIGURATION, *planning),
        ),
        Step(
            "shrink",
            f"make the planned network small: {DEMO_PLANS}.json beside nnUNetPlans.json",
            action=write_plans,
        ),
        Step(
            "preprocess",
            "preprocess",
            ("nnUNetv2_preprocess", "-d", dataset, "-plans_name", DEMO_PLANS, "-c", DEMO_CONFIGURATION, "-np", "1"),
        ),
        train("train", "train a deterministic nnU-Net on the majority vote", DETERMINISTIC_TRAINER),
        Step(
            "raters",
            "preprocess the masks of the four radiologists",
            ("nnunet_stochastic_preprocess_raters", "-d", dataset, "-p", DEMO_PLANS, "-c", DEMO_CONFIGURATION),
        ),
        train("finetune", "fine-tune it on them as a stochastic one (mixture of bases)", STOCHASTIC_TRAINER),
        Step(
            "predict",
            "predict segmentations, uncertainty maps and whole samples of unseen patients",
            (
                "nnunet_stochastic_predict",
                "-i",
                str(raw / "imagesTs"),
                "-o",
                str(predictions),
                *model,
                *trained,
                *files,
            ),
        ),
        Step(
            "evaluate",
            "evaluate against the majority vote and against each rater",
            ("nnunet_stochastic_evaluate", "-pred", str(predictions), *references),
            shows_output=True,
        ),
        Step(
            "report",
            "put tables, figures and cases on one page",
            ("nnunet_stochastic_report", str(predictions / "evaluation"), "-o", str(folder / REPORT)),
        ),
    ]


def _results(folder: Path, *, dataset_only: bool) -> list[tuple[str, Path]]:
    data = [("data set", folder / "nnUNet_raw" / DATASET_NAME)]
    if dataset_only:
        return data
    predictions = folder / "predictions"
    return [
        ("report, for any browser", folder / REPORT),
        ("a picture per case", predictions / "evaluation" / "pictures"),
        ("reliability diagram", predictions / "evaluation" / "reliability.png"),
        ("scores", predictions / "evaluation" / "summary.json"),
        ("segmentations", predictions),
        ("uncertainty maps", predictions / "{total,aleatoric,epistemic,variance}"),
        ("whole samples, and their volumes", predictions / "{samples,volumes.csv}"),
        ("model", folder / "nnUNet_results" / DATASET_NAME),
        ("output of each step", folder / "logs"),
        *data,
    ]


def _prepare_folder(folder: Path, *, overwrite: bool) -> None:
    """Make what is in `folder`, an output folder; refuse one that holds something else."""
    if not (folder / RECORD).exists() and any(map(_is_foreign, folder.iterdir())):
        raise ValueError(
            f"the folder {folder} holds files that are not the demo's; choose an empty or a new one with -o"
        )
    if overwrite:
        for name in SUBFOLDERS:
            if (folder / name).exists():
                shutil.rmtree(folder / name)
        (folder / RECORD).unlink(missing_ok=True)
    if not (folder / RECORD).exists():
        write_done_steps(folder, {})
    for name in SUBFOLDERS[:3]:
        (folder / name).mkdir(exist_ok=True)


def _is_foreign(path: Path) -> bool:
    """Whether something is not what an interruption may have left of a demo that had just begun."""
    return not is_leftover(path) and (path.name not in SUBFOLDERS[:3] or not path.is_dir() or any(path.iterdir()))


def _print_case(done: int, total: int) -> None:
    print(f"{done}/{total} images", flush=True)


def _default_device() -> str:
    import torch  # here because it takes seconds, and wrong options should be reported at once

    return "cuda" if torch.cuda.is_available() else "cpu"
