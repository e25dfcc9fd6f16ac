"""Programs in the place of nnU-Net's and this package's, for a study that takes seconds.

Each writes what the real one would be known by, as a function of its arguments and its inputs alone: a checkpoint of
the trainer's and fold's name, predictions of the checkpoints' content, and so on. Results tell what they were made of.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Python reads it when it starts: programs come from the folder STAND_INS, and no process imports nnU-Net.
SITE = """
import os, sys
if "STAND_INS" in os.environ and any("nnunet" in word or "snakemake" in word for word in sys.orig_argv):
    from pathlib import Path
    import nnunet_stochastic.processes as processes
    def find_program(name, environment):
        return str(Path(os.environ["STAND_INS"]) / Path(name).name), environment["PATH"]
    processes.find_program = find_program
"""

PROGRAM = """#!{python} -SE
import json, os, sys, time, zipfile
from hashlib import sha256
from pathlib import Path

name, words = Path(sys.argv[0]).name, sys.argv[1:]
here = Path(os.environ["STAND_INS"])

def option(key):
    return words[words.index(key) + 1]

def write(path, text):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("." + path.name)
    temporary.write_text(text)
    temporary.replace(path)

def content(path):
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    parts = [file.relative_to(path).as_posix().encode() + file.read_bytes() for file in files]
    return sha256(b"".join(parts)).hexdigest()

with open(here / "calls", "a") as calls:
    calls.write(json.dumps([name, *words]) + "\\n")
print(name, "says", *words, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")))
if (here / "fail").exists() and any(part in " ".join([name, *words]) for part in (here / "fail").read_text().split()):
    sys.exit("this one fails")
pre, raw, results = (Path(os.environ["nnUNet_" + part]) for part in ("preprocessed", "raw", "results"))
if name == "make_dataset":
    for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs", "imagesOOD_far", "labelsOOD_far"):
        write(raw / words[0] / part / "case_0000.png", part)
    write(raw / words[0] / "dataset.json", json.dumps(dict(file_ending=".png", labels=dict(background=0, x=1))))
elif name == "nnUNetv2_plan_and_preprocess":
    (dataset,) = raw.glob("Dataset%03d_*" % int(option("-d")))
    write(pre / dataset.name / "dataset.json", "{{}}" .replace("{{}}", '{{"labels": 2}}'))
    write(pre / dataset.name / "nnUNetPlans.json", json.dumps(dict(configurations={{"2d": dict(data_identifier="d")}})))
elif name == "nnUNetv2_preprocess":
    (dataset,) = raw.glob("Dataset%03d_*" % int(option("-d")))
    write(pre / dataset.name / "d" / "case.pkl", "")
elif name.startswith("python") and words[1].endswith("splits"):
    write(pre / words[2] / "splits_final.json", json.dumps([dict(train=["case"], val=["case"])] * int(words[3])))
elif name.startswith("python"):
    write(Path(words[3]) / "case_0000.png", "validation")
elif name == "nnunet_stochastic_corrupt":
    write(Path(option("-o")) / option("--shifts") / "manifest.json", option("--shifts"))
elif name == "nnUNetv2_train":
    model = "{{}}__{{}}__{{}}".format(option("-tr"), option("-p"), words[1])
    folder = results / words[0] / model / ("fold_" + words[2])
    folder.mkdir(parents=True, exist_ok=True)
    epochs = len(list(folder.glob("epoch_*")))
    for epoch in range(epochs, 3):  # each epoch is kept, as by checkpoints
        time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")))
        write(folder / ("epoch_%d" % epoch), "")
    partial = folder / "partial"
    with zipfile.ZipFile(partial, "w") as archive:
        archive.writestr(zipfile.ZipInfo("weights"), " ".join(words) + os.environ["nnUNet_stochastic_seed"])
    partial.replace(folder / "checkpoint_final.pth")
elif name == "nnunet_stochastic_predict":
    end = [index for index, word in enumerate(words) if word.startswith("-") and index > words.index("-f")][0]
    folds = words[words.index("-f") + 1 : end]
    model = results / option("-d") / "{{}}__{{}}__{{}}".format(option("-tr"), option("-p"), option("-c"))
    weights = [content(model / ("fold_" + fold) / "checkpoint_final.pth") for fold in folds]
    options = [word for word in words if "/" not in word and word != "--continue_prediction"]
    settings = dict(weights=weights, options=options)
    out = Path(option("-o"))
    if (out / "uncertainty.json").exists() and json.loads((out / "uncertainty.json").read_text()) != settings:
        sys.exit("written with other settings")
    write(out / "uncertainty.json", json.dumps(settings))
    write(out / "case.png", content(Path(option("-i"))))
elif name == "nnunet_stochastic_determine_calibration":
    write(Path(option("-val")) / "calibration.json", content(Path(option("-val")) / "uncertainty.json"))
elif name == "nnunet_stochastic_evaluate":
    of = [content(Path(word.partition("=")[2] or word)) for word in words if "predictions" in word]
    for file in ("summary.json", "cases.csv", "images.csv", "scores.csv"):
        write(Path(option("-o")) / file, json.dumps(of))
elif name == "nnunet_stochastic_compare":
    table = Path(option("--runs")).read_text()
    rows = [line.split(",") for line in table.splitlines()[1:]]
    made = [row + [content(Path(option("--runs")).parent / row[0])] for row in rows]
    write(Path(option("-o")) / "comparison.csv", json.dumps(made))
elif name == "nnunet_stochastic_report":
    write(option("-o"), " ".join(content(Path(word)) for word in words if "/evaluations/" in word))
else:
    sys.exit("no such stand-in")
"""

PROGRAMS = (
    "make_dataset",
    "nnUNetv2_plan_and_preprocess",
    "nnUNetv2_preprocess",
    "nnUNetv2_train",
    *(f"nnunet_stochastic_{name}" for name in ("corrupt", "predict", "determine_calibration", "evaluate", "compare")),
    "nnunet_stochastic_report",
    Path(sys.executable).name,
)

START = """
import sys
from nnunet_stochastic.commands import study
from nnunet_stochastic.study.checks import Machine
study.find_machine = lambda *_: Machine((), {})
sys.exit(study.main(sys.argv[1:]))
"""

STUDY = """
output: out
seeds: 2
device: cpu
aleatoric: [Softmax, SSN]
epistemic: [none, ensemble]
exclude: [Softmax/none]
predict: {num_samples: 4}
datasets:
  - dataset: 7
    convert: make_dataset Dataset007_Toy
    configuration: 2d
    raters: false
    ood: [far]
"""


class StandIns:
    """A folder with the programs, nnU-Net's folders and a study."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.output = folder, folder / "bin", folder / "out"
        self.bin.mkdir(parents=True)
        # Not in the study's folder, whose name may have what parts the folders of PYTHONPATH.
        self.site = tempfile.TemporaryDirectory()
        Path(self.site.name, "sitecustomize.py").write_text(SITE)
        for name in PROGRAMS:
            path = self.bin / name
            path.write_text(PROGRAM.format(python=sys.executable))
            path.chmod(0o755)
        self.file = folder / "study.yaml"
        self.file.write_text(STUDY)
        nnunet = {f"nnUNet_{part}": str(folder / part) for part in ("raw", "preprocessed", "results")}
        for path in nnunet.values():
            Path(path).mkdir()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_stochastic")}
        self.environment = {
            **inherited,
            **nnunet,
            "STAND_INS": str(self.bin),
            "PYTHONPATH": os.pathsep.join([self.site.name, str(ROOT)]),
        }

    def start(self, *options: str, seconds: float = 0) -> subprocess.Popen:
        """Start the study in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", START, str(self.file), "--cores", "4", *options],
            env={**self.environment, "STAND_IN_SECONDS": str(seconds)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str, status: int = 0) -> str:
        """Run the study to its end; returns what it printed."""
        process = self.start(*options)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == status, printed
        return printed

    def calls(self) -> list[list[str]]:
        """Programs that ran since the last time, with their arguments."""
        file = self.bin / "calls"
        if not file.exists():
            return []
        lines = file.read_text().splitlines()
        file.unlink()
        return [json.loads(line) for line in lines]

    def fail(self, *words: str) -> None:
        """Let the programs fail whose command line has one of the words."""
        (self.bin / "fail").write_text(" ".join(words))

    def results(self) -> dict[str, bytes]:
        """All results of the study, but logs and records."""
        kept = ("predictions", "evaluations", "comparison", "sets", "runs.csv", "report.html")
        files = (file for part in kept for file in [self.output / part, *(self.output / part).rglob("*")])
        found = {str(file.relative_to(self.output)): file.read_bytes() for file in files if file.is_file()}
        return {name: content.replace(str(self.folder).encode(), b"") for name, content in found.items()}

    def succeed(self) -> None:
        """Let no program fail any more."""
        (self.bin / "fail").unlink()

    def wait_for(self, condition, process: subprocess.Popen) -> None:
        """Wait until something is so, or the process has ended."""
        end = time.monotonic() + 120
        while not condition() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.02)
