"""``nnunet_stochastic_export_dicom``: predictions as DICOM objects, for PACS, viewers and the clinic."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import add_disable_progress_bar, add_processes, parse_arguments
from nnunet_stochastic.dicom.kinds import KINDS
from nnunet_stochastic.dicom.libraries import require_libraries
from nnunet_stochastic.io.names import counted, few

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_export_dicom",
        description="Write predictions as DICOM objects that belong to the scans they were made from, as hospitals' "
        "archives and viewers take them: the segmentation and the probabilities as Segmentation objects, each "
        "uncertainty map as a Parametric Map. They have the patient, study and frame of reference of the scan and "
        "refer to its slices. Nothing is resampled: the prediction must be on the voxels of the scan, as it is where "
        "nnunet_stochastic_predict was given the DICOM series or a NIfTI file that was made of it.",
        epilog="For each case -o gets a folder with segmentation.dcm, a file per map, and probabilities.dcm, and "
        "records/ what they were made of. Maps are in float32, their unit is coded: nats ({nat} of UCUM), or 1 for "
        "the variance. Probabilities are rounded to 1/255. A --codes file says what the structures are, for instance "
        '{"nodule": {"SegmentedPropertyCategoryCodeSequence": {"CodeValue": "49755003", "CodingSchemeDesignator": '
        '"SCT", "CodeMeaning": "Morphologically abnormal structure"}, "SegmentedPropertyTypeCodeSequence": '
        '{"CodeValue": "27925004", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Nodule"}}}, for every label of '
        "dataset.json; AnatomicRegionSequence, SegmentedPropertyTypeModifierCodeSequence (left, right) and "
        "recommendedDisplayRGBValue, [255, 0, 0], may be added. The names are those of DICOM and of dcmqi's files.",
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
        "-dicom",
        type=Path,
        metavar="FOLDER",
        required=True,
        help="folder that holds a folder per case, named as the case, with the slices of its DICOM series; those of "
        "several channels in CASE/0000, CASE/0001 and so on",
    )
    add("-o", type=Path, metavar="FOLDER", required=True, help="output folder; made if missing")
    add(
        "--objects",
        nargs="+",
        choices=KINDS,
        help="what to write (default: all that the predictions have)",
    )
    add(
        "--codes",
        type=Path,
        metavar="FILE",
        help='JSON file with the codes of each label, see below (default: each is "Tissue", SCT 85756007)',
    )
    add("-djfile", type=Path, metavar="FILE", help="dataset.json (default: the one inside -i)")
    add_processes(parser, "number of cases at a time, in threads")
    add("--continue_export", action="store_true", help="keep the cases that an earlier command has finished")
    add_disable_progress_bar(parser)
    return parser


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Write the objects; the exit status is 0 when all were written."""
    arguments = parse_arguments(_parser(), argv)
    require_libraries()
    # After parsing: these imports take seconds, and a typing error should not wait for them.
    from nnunet_stochastic.dicom.folders import series_folders
    from nnunet_stochastic.evaluation import find_cases, map_in_threads
    from nnunet_stochastic.evaluation.dicom_export import DicomExport
    from nnunet_stochastic.evaluation.evaluate import raise_problems
    from nnunet_stochastic.evaluation.predicted_dataset import read_dataset
    from nnunet_stochastic.io.output_locks import locked_output_folder

    output: Path = arguments.o
    for option in ("i", "dicom"):
        folder: Path = getattr(arguments, option).resolve()
        if folder == output.resolve() or (option == "dicom" and folder in output.resolve().parents):
            raise ValueError(f"-o must not be where -{option} is: choose another output folder with -o")
    dataset = read_dataset(arguments.i, arguments.djfile, option="-i")
    cases, problems = find_cases(arguments.i, None, file_ending=dataset.file_ending, probabilities=False)
    series = series_folders(arguments.dicom)
    export, missing = DicomExport.plan(
        arguments.i, output, dataset, series, cases, kinds=arguments.objects, codes_file=arguments.codes
    )
    raise_problems([*problems, *missing])
    with locked_output_folder(output):
        export.check_free(cases)
        progress = not arguments.disable_progress_bar
        states = map_in_threads(
            export.state, cases, num_threads=arguments.np, description="checking", show_progress=progress
        )
        raise_problems([state for state in states if isinstance(state, str)])
        pending = [
            case for case, state in zip(cases, states, strict=True) if not (arguments.continue_export and state is True)
        ]
        export.begin(pending)
        map_in_threads(export.write, pending, num_threads=arguments.np, description="DICOM", show_progress=progress)
    if others := sorted(series.keys() - {case.name for case in cases}):
        print(f"note: in -dicom without a prediction: {few(others)}")
    if arguments.codes is None:
        print('note: without --codes each label is "Tissue" (SCT 85756007), which says nothing of what it is')
    print(f"{', '.join(export.kinds)} of {len(pending)} of {counted(len(cases), 'case')} written: {output}")
    return 0
