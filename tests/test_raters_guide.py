"""The guide's way from images and several raters' masks to a page with four models, each command as it is printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[1]
SECTION = "## From images and several raters' masks to a page with four models"
MODELS = ["Diagonal", "LowRank", "MoB", "MoBVolume"]


def printed() -> str:
    """The section's code, without the indentation by which Markdown knows it."""
    text = (ROOT / "docs/guides/raters.md").read_text(encoding="utf-8").partition(SECTION)[2]
    lines = text.splitlines()
    code = [number for number, line in enumerate(lines) if line.startswith("    ")]
    return "\n".join(line.removeprefix("    ") for line in lines[code[0] : code[-1] + 1]) + "\n"


def commands(code: str) -> list[str]:
    """What is typed at a prompt: a here-document belongs to its command."""
    return re.sub(r"<<('?)END\1\n.*?\nEND$", "<<END", code, flags=re.DOTALL | re.MULTILINE).splitlines()


def test_it_takes_ten_commands_at_most():
    typed = commands(printed())
    assert 5 < len(typed) <= 10
    assert all(re.match(r"(export|mkdir|cat|nnunet_stochastic_\w+) ", command) for command in typed), typed
    assert typed[-1] == "nnunet_stochastic_study study.yaml"


def write_images(folder: Path) -> None:
    """Bright balls, and two raters who draw them smaller and larger."""
    random = np.random.default_rng(0)
    for name in ("imagesTr", "ratersTr"):
        (folder / name).mkdir()
    for index in range(6):
        centre = random.uniform(0.4, 0.6, 3) * (12, 24, 24)
        distance = np.linalg.norm((np.moveaxis(np.indices((12, 24, 24)), 0, -1) - centre) * (2, 1, 1), axis=-1)
        image = np.clip(9 - distance, 0, 6) * 50 + random.normal(0, 10, distance.shape)
        arrays = {f"imagesTr/ball_{index}_0000": image.astype(np.float32)}
        arrays |= {
            f"ratersTr/ball_{index}_rater{n}": (distance < radius).astype(np.uint8) for n, radius in ((0, 5), (1, 7))
        }
        for name, array in arrays.items():
            volume = sitk.GetImageFromArray(array)
            volume.SetSpacing((0.7, 0.7, 1.4))
            sitk.WriteImage(volume, str(folder / f"{name}.nii.gz"))


def install_commands(folder: Path) -> None:
    """The commands of pyproject.toml, of the package that is tested here."""
    scripts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    folder.mkdir()
    for name, module in re.findall(r'^(nnunet_stochastic_\w+) = "([\w.]+):main"', scripts, re.MULTILINE):
        program = f"import sys; sys.argv[0] = {name!r}; from {module} import main; sys.exit(main())"
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(program)} "$@"\n')
        (folder / name).chmod(0o755)


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="Snakemake needs Python 3.11")
@pytest.mark.skipif(os.name == "nt", reason="bash")
def test_its_commands_end_with_the_page(tmp_path):
    write_images(tmp_path)
    install_commands(tmp_path / "bin")
    path = os.pathsep.join([str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    unset = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_stochastic_init", "nnUNet_extTrainer")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"PATH": path, "DEVICE": "cpu", "EPOCHS": "2"}
    # Starting workers takes longer than the work that they would take over.
    environment |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-e", "-c", printed()], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"

    dataset = tmp_path / "nnUNet_raw" / "Dataset501_Mine"
    assert json.loads((dataset / "dataset.json").read_text())["num_raters"] == 2
    for label in (dataset / "labelsTr").iterdir():  # of two raters every disagreement is a tie, to foreground
        larger = dataset / "ratersTr" / label.name.replace(".nii.gz", "_rater1.nii.gz")
        voxels, expected = (sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in (label, larger))
        np.testing.assert_array_equal(voxels, expected)

    values = pd.read_csv(tmp_path / "results" / "comparison" / "comparison.csv")
    assert sorted(values["aleatoric"].unique()) == MODELS
    page = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    for model in MODELS:
        assert f"{model} / No EU" in page
        summary = tmp_path / "results" / "evaluations" / "Dataset501_Mine" / model / "none" / "seed_0" / "summary.json"
        tasks = json.loads(summary.read_text())["tasks"]
        assert {"GED", "VOLUME", "AMB", "CAL"} <= tasks.keys()
