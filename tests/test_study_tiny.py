"""examples/tiny to its report, interrupted on the way and started again."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnunet_stochastic.evaluation.model import model_title

TINY = Path(__file__).parents[1] / "examples" / "tiny"
COMMAND = "import sys; from nnunet_stochastic.commands.study import main; sys.exit(main())"
DATASET = "Dataset901_LungNodulesDemo"
#: nnU-Net draws its curves after each epoch: a large picture, which no check here reads.
NO_CURVES = """

from nnunetv2.training.logging.nnunet_logger import MetaLogger

MetaLogger.plot_progress_png = lambda *_: None
"""
MODELS = {(name, method) for name in ("Softmax", "SSN") for method in ("none", "deep_ensemble", "dropout", "swag")}
MODELS -= {("Softmax", "none")}
LIMIT_SECONDS = 3600


class Study:
    """The study in a folder of its own, with nnU-Net's folders beside it."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("results", "__pycache__"))
        with (folder / "trainers" / "tiny_trainers.py").open("a") as file:
            file.write(NO_CURVES)
        self.folder, self.results = folder, folder / "results"
        names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        self.environment = dict(os.environ) | {name: str(folder / name) for name in names}
        for name in names:
            (folder / name).mkdir()

    def start(self, *options: str) -> subprocess.Popen:
        with (self.folder / "output.txt").open("a") as stream:
            return subprocess.Popen(
                [sys.executable, "-c", COMMAND, "tiny.yaml", *options],
                cwd=self.folder,
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    def trained(self) -> dict[Path, int]:
        """Final checkpoints, and when they were written."""
        return {
            path: path.stat().st_mtime_ns
            for path in (self.folder / "nnUNet_results" / DATASET).glob("*/fold_*/checkpoint_final.pth")
        }

    def in_training(self) -> list[Path]:
        """Training logs of the runs that are beyond their second epoch, and not at their end."""
        logs = (self.folder / "nnUNet_results" / DATASET).glob("*/fold_*/training_log*.txt")
        return [
            log for log in logs if "Epoch 2" in log.read_text() and not (log.parent / "checkpoint_final.pth").exists()
        ]


class Texts(HTMLParser):
    """Reads a page to its end, and keeps its title."""

    def __init__(self) -> None:
        super().__init__()
        self.title, self.open_tag, self.ended = "", "", False

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.open_tag = tag

    def handle_data(self, data: str) -> None:
        self.title += data if self.open_tag == "title" else ""

    def handle_endtag(self, tag: str) -> None:
        self.open_tag = ""
        self.ended = tag == "html"


def kill_while_training(study: Study) -> None:
    """Kill the study and all its jobs when one model is trained and another one is being trained."""
    process = study.start()
    end = time.monotonic() + LIMIT_SECONDS
    while not (study.trained() and study.in_training()):
        assert process.poll() is None, study.output
        assert time.monotonic() < end, study.output
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="Snakemake needs Python 3.11")
def test_tiny_study(tmp_path):
    study = Study(tmp_path / "study")
    kill_while_training(study)
    trained, interrupted = study.trained(), [log.parent for log in study.in_training()]
    assert interrupted
    assert study.start().wait(LIMIT_SECONDS) == 0, study.output

    after = study.trained()
    assert len(after) == 8
    assert {path: after[path] for path in trained} == trained
    for folder in interrupted:
        assert folder / "checkpoint_final.pth" in after

    summaries = sorted((study.results / "evaluations" / DATASET).glob("*/*/*/summary.json"))
    # 5 models of 2 seeds and 2 ensembles.
    assert len(summaries) == 12
    for path in summaries:
        summary = json.loads(path.read_text())
        assert summary["num_cases"] == 4
        assert summary["results"]["raters"]["all classes"]["mean"]["dice"] > 0.2, path
        assert 0 < summary["tasks"]["GED"]["ID"] < 1, path
        assert {"OODD", "AMB", "CAL"} <= summary["tasks"].keys(), path
    check_comparison(study.results / "comparison")
    check_maps(study.results / "predictions" / DATASET / "SSN" / "ensemble" / "all_seeds" / "ID")

    page = (study.results / "report.html").read_text()
    texts = Texts()
    texts.feed(page)
    assert texts.ended
    assert texts.title.strip() == "Tiny study"
    for name, method in MODELS:
        assert model_title(name, method) in page

    # Started once more, it has nothing to do.
    assert study.start().wait(LIMIT_SECONDS) == 0, study.output
    assert study.trained() == after


def check_comparison(folder: Path) -> None:
    values = pd.read_csv(folder / "comparison.csv")
    assert set(zip(values["aleatoric"], values["epistemic"], strict=True)) == MODELS
    assert values.groupby(["aleatoric", "epistemic"])["seed"].nunique().eq(2).all()
    ranked = values.dropna(subset="rank")
    assert set(ranked["task"]) == {"OODD", "AMB", "CAL"}
    for _, group in ranked.groupby(["seed", "task", "split", "quantity"]):
        assert group["rank"].sum() == math.comb(len(MODELS) + 1, 2)  # 1 + 2 + … + 7, ties averaged
    assert (
        values.loc[values["quantity"].isin(["Dice", "NLL", "ECE", "GED (1 - IoU)", "GED (1 - Dice)"]), "value"]
        .notna()
        .all()
    )
    for table in ("table2_performance", "table2_entanglement", "table3", "segmentation", "performance"):
        assert {f"{table}.{ending}" for ending in ("csv", "md", "tex")} <= {path.name for path in folder.iterdir()}
    rows = (folder / "segmentation.md").read_text().count(f"| {DATASET} |")
    assert rows == len(MODELS) + 1  # and the raters, for reference


def check_maps(folder: Path) -> None:
    for case in folder.glob("*.nii.gz"):
        maps = {
            name: sitk.GetArrayFromImage(sitk.ReadImage(str(folder / name / case.name)))
            for name in ("total", "aleatoric", "epistemic")
        }
        np.testing.assert_allclose(maps["total"], maps["aleatoric"] + maps["epistemic"], atol=1e-6)
        assert maps["epistemic"].max() > 1e-4
        assert maps["total"].max() <= math.log(2) + 1e-6
    assert len(list(folder.glob("*.nii.gz"))) == 4
