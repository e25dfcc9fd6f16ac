"""What do structures.csv and lesions.csv cost? nnunet_stochastic_predict against itself without them.

Without: the rows are not computed, nor what only they need: sums of the predictive mean, the mean of the structures
with lesions, the segmentation of each member. Processor time of the whole process, user and system, which other work
on the machine disturbs less than wall time; memory of the whole process tree. This file run as a script is the
command without tables.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Row, cpu_seconds, executable, peak_command_bytes
from workload import dataset_json, workload_for, write_images, write_model_folder

__all__ = ["measure"]

NUM_CASES = 2
_LIMIT = 1.05
_WORK = {
    "tables": (),
    "tables, lesions": ("--lesions", next(name for name in dataset_json(2)["labels"] if name != "background")),
}


def measure(device: torch.device, repeats: int) -> list[Row]:
    workload = workload_for(device)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = write_images(folder / "images", workload, num_cases=NUM_CASES)
        model = write_model_folder(folder / "results", workload)
        runs = itertools.count()

        def command(program: list[str], *options: str) -> list[str]:
            output = folder / f"predictions_{next(runs)}"
            common = ["-i", str(images), "-o", str(output), "-m", str(model), "-f", "0", "-device", device.type]
            return [*program, *common, *options]

        ours, theirs = [executable("nnunet_stochastic_predict")], [sys.executable, __file__]

        def cost(command: list[str]) -> tuple[float, int]:
            return cpu_seconds(lambda: peak_command_bytes(command, {}))

        times, memory = ({work: [] for work in _WORK} for _ in range(2))
        for _ in range(repeats):
            without_s, without_bytes = cost(command(theirs))
            for work, options in _WORK.items():
                with_s, with_bytes = cost(command(ours, *options))
                times[work].append(with_s / without_s)
                memory[work].append(with_bytes / without_bytes)
    return [
        Row(work, "no tables", quantity, tuple(ratios[work]), _LIMIT)
        for work in _WORK
        for quantity, ratios in (("processor time", times), ("memory", memory))
    ]


def _predict_without_tables(arguments: list[str]) -> int:
    from nnunet_stochastic.commands.predict import main
    from nnunet_stochastic.inference import StochasticPredictor, pipeline

    restore, predict_grid = StochasticPredictor.restore, StochasticPredictor.predict_grid
    pipeline.describe_case = lambda *_, **__: {}
    StochasticPredictor.restore = lambda self, grid, properties, *, probabilities, **_: restore(
        self, grid, properties, probabilities=probabilities
    )
    StochasticPredictor.predict_grid = lambda self, data, *, on_member, **wanted: predict_grid(self, data, **wanted)
    return main(arguments)


if __name__ == "__main__":
    sys.exit(_predict_without_tables(sys.argv[1:]))
