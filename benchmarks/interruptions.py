"""End each command at random moments, damage its newest file, run it again, and compare with an undisturbed run.

    python benchmarks/interruptions.py --kills 1000 --damages 200     # hours; the default is a sample of minutes
    python benchmarks/interruptions.py --only corrupt convert

A kill is SIGKILL to the command and its workers, in what is left of its undisturbed time. Damage is what a power cut
leaves: the newest file empty, cut, or with a page of zeros. Then the command is run as its user would, to its end;
every file must have the bytes of the undisturbed run, or the command must have refused with one line that names the
file, after which --overwrite or a removed file must do. Not part of `make test`: moments are random.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

#: What differs between two undisturbed runs: times, and the folder itself.
PASSED_OVER = ("training_log", ".log")
CALL = "import sys; from nnunet_stochastic.commands.{} import main; sys.exit(main())"


@dataclass(frozen=True)
class Command:
    """A command: its module, arguments, what it needs to go on, and the folder that it fills."""

    module: str
    arguments: tuple[str, ...]
    resume: tuple[str, ...]
    output: Path


def write(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), True)


def make_commands(folder: Path) -> dict[str, Command]:
    """Small input, and the commands that read it; each fills a folder of its own."""
    from tests.inference.model_folder import image_array, write_model_folder

    numbers = np.random.default_rng(0)
    shape = image_array(0, (10, 14, 12)).T.shape
    for n in range(6):
        write(folder / "in" / f"case{n}_0000.nii.gz", image_array(n, (10, 14, 12)))
        write(folder / "curvas" / f"U{n}" / "image.nii.gz", numbers.integers(-100, 100, shape).astype(np.int16))
        for rater in (1, 2, 3):
            mask = numbers.integers(0, 4, shape).astype(np.uint8)
            write(folder / "curvas" / f"U{n}" / f"annotation_{rater}.nii.gz", mask)
    model = write_model_folder(folder / "model" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    quiet = "--disable_progress_bar"
    predict = ("-i", str(folder / "in"), "-m", str(model), "-f", "0", "-device", "cpu", "--disable_tta", quiet)
    return {
        "convert": Command(
            "convert_CURVAS",
            ("-i", str(folder / "curvas"), "-d", "10", "-np", "1", quiet),
            (),
            folder / "nnUNet_raw" / "Dataset010_CURVAS",
        ),
        "corrupt": Command(
            "corrupt",
            ("-i", str(folder / "in"), "-o", str(folder / "shifted"), "--shifts", "blur", "noise", quiet),
            ("--continue_corruption",),
            folder / "shifted",
        ),
        "predict": Command(
            "predict", ("-o", str(folder / "out"), *predict), ("--continue_prediction",), folder / "out"
        ),
        "demo": Command("demo", ("-o", str(folder / "demo"), "--dataset_only", quiet), (), folder / "demo"),
    }


def start(command: Command, folder: Path, *more: str) -> subprocess.Popen:
    variables = {f"nnUNet_{part}": str(folder / f"nnUNet_{part}") for part in ("raw", "preprocessed", "results")}
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", CALL.format(command.module), *command.arguments, *more],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if not path.name.endswith(PASSED_OVER)}


def damage_newest(folder: Path, random_numbers: random.Random) -> Path | None:
    """Leave the newest file as a power cut does; returns it."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        return None
    whole = files[-1].read_bytes()
    cut = random_numbers.randrange(len(whole) + 1)
    files[-1].write_bytes(random_numbers.choice([b"", whole[:cut], whole[:cut] + bytes(len(whole) - cut)]))
    return files[-1]


def disturb(command: Command, folder: Path, seconds: float, random_numbers: random.Random, *, damage: bool) -> str:
    """One kill, damage if asked for, and a second run; what became of it."""
    shutil.rmtree(command.output, ignore_errors=True)
    process = start(command, folder)
    time.sleep(random_numbers.uniform(0, seconds))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    damaged = damage_newest(command.output, random_numbers) if damage else None
    begun = command.output.is_dir() and any(command.output.iterdir())
    again = start(command, folder, *(command.resume if begun else ()))
    message = again.communicate()[1]
    if again.returncode == 0:
        return "as undisturbed"
    if "Traceback" in message:
        return f"TRACEBACK {message.splitlines()[-1]}"
    named = damaged is not None and damaged.name in message
    return "refused, the file named" if named else f"refused: {message.splitlines()[0]}"


def main() -> int:
    """Print a line per command, and return 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="number of kills of all commands (default: 20)")
    parser.add_argument("--damages", type=int, default=8, help="number of those with a damaged file (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="seed of moments and damages (default: 0)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="commands (default: all)")
    arguments = parser.parse_args()
    random_numbers = random.Random(arguments.seed)
    lost = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = make_commands(folder)
        commands = {key: commands[key] for key in arguments.only or commands}
        for number, (key, command) in enumerate(commands.items()):
            begin = time.monotonic()
            undisturbed = start(command, folder)
            message = undisturbed.communicate()[1]
            if undisturbed.returncode != 0:
                raise SystemExit(f"{key}: {message}")
            seconds = time.monotonic() - begin
            expected = contents(command.output)
            found: Counter[str] = Counter()
            for turn in range(number, arguments.kills, len(commands)):
                outcome = disturb(command, folder, seconds, random_numbers, damage=turn < arguments.damages)
                if outcome == "as undisturbed" and (now := contents(command.output)) != expected:
                    differing = [file for file in sorted(now | expected) if now.get(file) != expected.get(file)]
                    outcome = f"DIFFERS {differing[:3]}"
                found[outcome] += 1
            lost += sum(count for outcome, count in found.items() if outcome[:4].isupper())
            print(key, json.dumps(found), flush=True)
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
