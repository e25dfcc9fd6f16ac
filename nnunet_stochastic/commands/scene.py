"""``nnunet_stochastic_scene``: predictions as 3D Slicer and ITK-SNAP open them, with names, colours and windows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.commands._errors import report_errors
from nnunet_stochastic.commands._flags import add_disable_progress_bar, add_processes, parse_arguments
from nnunet_stochastic.io.names import counted

__all__ = ["main"]

SCENES = "scenes"
_LABEL_DESCRIPTIONS = "labels.txt"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_scene",
        description="Write a scene of 3D Slicer for each predicted case: its image, the segmentation in the colours of "
        "a table that has the labels' names, and its uncertainty maps, with windows from their values. The maps of one "
        "case share a scale, but for the variance. Files are named relative to the scene and not copied.",
        epilog="In Slicer, drop CASE.mrml on the window. In ITK-SNAP, open image and segmentation, and labels.txt by "
        "Segmentation > Import Label Descriptions; a map is added as another image.",
    )
    add = parser.add_argument
    add(
        "-i",
        type=Path,
        metavar="FOLDER",
        required=True,
        help="folder of predictions (output of nnunet_stochastic_predict)",
    )
    add(
        "--images",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="image folders, for images that are no longer where the prediction read them",
    )
    add(
        "-o",
        type=Path,
        metavar="FOLDER",
        help=f"output folder, made if missing; CASE.mrml, labels.ctbl and labels.txt in it are replaced "
        f"(default: {SCENES} inside -i)",
    )
    add("-djfile", type=Path, metavar="FILE", help="dataset.json (default: the one inside -i)")
    add_processes(parser, "number of cases at a time, in threads")
    add_disable_progress_bar(parser)
    return parser


@report_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Write the scenes; return 0."""
    arguments = parse_arguments(_parser(), argv)
    # After parsing: these imports take seconds, and a typing error should not wait for them.
    from nnunet_stochastic.evaluation import map_in_threads
    from nnunet_stochastic.evaluation.case_sets import SetFolders
    from nnunet_stochastic.evaluation.predicted_dataset import read_dataset
    from nnunet_stochastic.io.folders import files_by_name
    from nnunet_stochastic.io.output_locks import locked_output_folder
    from nnunet_stochastic.io.staging import remove_leftovers
    from nnunet_stochastic.io.text import write_text
    from nnunet_stochastic.report.label_colours import itk_snap_labels, label_colours, slicer_colour_table
    from nnunet_stochastic.report.page.cases import CaseSource, PredictionFolder
    from nnunet_stochastic.report.slicer_scene import COLOUR_TABLE, SceneVolume, case_volumes, slicer_scene

    predictions: Path = arguments.i
    output: Path = (predictions / SCENES if arguments.o is None else arguments.o).resolve()
    if gone := [str(folder) for folder in arguments.images if not folder.is_dir()]:
        raise FileNotFoundError(f"the folder {gone[0]} (--images) does not exist; name that of the images")
    dataset = read_dataset(predictions, arguments.djfile, option="-i")
    files = PredictionFolder.of(
        predictions,
        file_ending=dataset.file_ending,
        labels=dataset.labels,
        reader=dataset.reader,
        image_folders=arguments.images,
    )

    def volumes_or_problem(name: str) -> list[SceneVolume] | str:
        try:
            return case_volumes(CaseSource(name, files, SetFolders(predictions, None)))
        except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: what the readers raise for broken files
            return str(error)

    names = list(files_by_name(predictions, dataset.file_ending))
    with locked_output_folder(output):
        found = map_in_threads(
            volumes_or_problem,
            names,
            num_threads=arguments.np,
            description="scenes",
            show_progress=not arguments.disable_progress_bar,
        )
        if problems := [problem for problem in found if isinstance(problem, str)]:
            raise ValueError("\n".join(problems))
        remove_leftovers(output, {COLOUR_TABLE, _LABEL_DESCRIPTIONS, *(f"{name}.mrml" for name in names)})
        write_text(output / COLOUR_TABLE, slicer_colour_table(dataset.labels))
        write_text(output / _LABEL_DESCRIPTIONS, itk_snap_labels(dataset.labels))
        num_rows = 1 + len(label_colours(dataset.labels))
        for name, volumes in zip(names, found, strict=True):
            if not isinstance(volumes, str):
                write_text(output / f"{name}.mrml", slicer_scene(volumes, output, num_rows))
    print(f"{counted(len(names), 'scene')}, {COLOUR_TABLE} and {_LABEL_DESCRIPTIONS} written: {output}")
    return 0
