"""The page of new cases carries what the tables of decisions and predictions say, and says what they lack."""

import base64
import gzip
import json
import re

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from skimage import io as image_io

from nnunet_stochastic.evaluation.case_sets import SetFolders
from nnunet_stochastic.io.grid import world_affine
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.report.page import (
    PredictionFolder,
    ReviewContent,
    missing,
    open_reviewed,
    order_in_words,
    read_review,
    render_review,
    review_cases,
)
from nnunet_stochastic.report.page.cases import CaseSource
from nnunet_stochastic.report.page.volumes import encode_case
from tests.report import new_cases
from tests.report.new_cases import AGREEMENT, CENTRES, STRUCTURES, write_decisions, write_predictions


def open_folder(folder):
    labels = EvaluatedLabels.from_dataset_json(json.loads((folder / "dataset.json").read_text()))
    return PredictionFolder.of(folder, file_ending=".nii.gz", labels=labels, reader=SimpleITKIO())


@pytest.fixture
def predictions(tmp_path):
    return write_predictions(tmp_path)


@pytest.fixture
def decided(tmp_path, predictions):
    return write_decisions(tmp_path / "decided", predictions)


def rows_of(folder, segmented=()):
    return [case.row for case in review_cases(read_review(open_reviewed(folder), segmented), open_folder)]


def page_of(folder, segmented=()):
    review = read_review(open_reviewed(folder), segmented)
    cases = review_cases(review, open_folder)
    nothing = [None] * len(cases)
    return "".join(render_review(ReviewContent("New", review, cases, nothing, nothing, {})))


def embedded(page, name):
    return json.loads(re.search(rf'id="data-{name}">(.*?)</script>', page, flags=re.DOTALL)[1])


def decode(layer):
    return np.asarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(layer.nifti))).dataobj).T


def test_rows_of_decisions(decided):
    rows = rows_of(decided)
    assert [(row["place"], row["case"], row["structure"]) for row in rows] == [
        (1, "case_0002", "rim"),
        (2, "case_0001", "nodule"),
        (3, "case_0000", "nodule"),
    ]
    assert rows[0] == {
        **{"case": "case_0002", "set": None, "model": None, "mark": "", "structure": "rim", "volume_ml": 0.0},
        **{"interval": None, "predicted_dice": None, "at_least": None, "expected_loss": 0.5},
        **{"pairwise_dice_samples": 0.99, "pairwise_dice_members": None, "TU": 0.3, "AU": 0.01},
        **{"place": 1.0, "removed": 0.333333, "percentile": 99.0, "score": "EU_mean", "label_next": 3.0},
        "reason": "rim: there with probability 0.50",
    }
    told = ("volume_ml", "interval", "predicted_dice", "at_least")
    assert [rows[1][field] for field in told] == [2.5, "0.5 to ∞", 0.61, "≥ 0.43"]
    assert [rows[2][field] for field in told] == [1.5, "0.5 to 2.25", 0.61, "≥ 0.43"]


def test_predictions_are_sorted_by_what_there_is(tmp_path, predictions):
    cases = sorted(AGREEMENT)
    rows = rows_of(predictions, cases)
    assert [(row["case"], row["structure"], row["pairwise_dice_samples"]) for row in rows] == [
        ("case_0002", "nodule", 0.3),
        ("case_0000", "rim", 0.5),
        ("case_0001", "nodule", 0.8),
    ]
    assert rows[0]["interval"] == "1 to 2"
    assert "samples agree least" in order_in_words(read_review(open_reviewed(predictions), cases))
    without = write_predictions(tmp_path / "without", num_samples=0)
    review = read_review(open_reviewed(without), cases)
    assert (review.sorted_by, review.cases) == ("TU", ("case_0002", "case_0001", "case_0000"))
    for name in ("uncertainty.json", "structures.csv", "lesions.csv"):
        (without / name).unlink()
    review = read_review(open_reviewed(without), cases)
    assert (review.sorted_by, review.cases) == ("case", tuple(cases))
    assert rows_of(without, cases)[0]["case"] == "case_0000"


def test_details_have_all_structures_and_lesions(decided):
    page = page_of(decided)
    details = embedded(page, "details")
    fields = [f for column in details["structureColumns"] for f in (column["field"], column["below"]) if f]
    first = [dict(zip(fields, values, strict=True)) for values in details["structures"][0]]
    assert [(row["structure"], row["volume_ml"], row["interval"]) for row in first] == [
        ("nodule", 3.5, "0.5 to 2.25"),
        ("rim", 0.0, None),
    ]
    names = ["name", *(column["field"] for column in details["lesionColumns"])]
    lesions = [dict(zip(names, values, strict=True)) for values in details["lesions"][0]]
    assert [(row["name"], row["probability"], row["existence"], row["remark"]) for row in lesions] == [
        ("nodule 1", 0.9, 0.75, None),
        ("nodule 2", 0.9, 0.375, "candidate"),
    ]


def test_a_lesion_is_where_its_centre_is(decided):
    case = review_cases(read_review(open_reviewed(decided), ()), open_folder)[0]
    volumes = encode_case(case.source)
    to_voxel = np.array(volumes.description()["to_voxel"])
    for centre, voxel in zip(case.details.centres_mm, CENTRES, strict=True):
        place = volumes.place_mm(centre)
        np.testing.assert_allclose(place, centre, atol=1e-4)  # the viewer's world is that of the image
        np.testing.assert_allclose(to_voxel @ (*place, 1), voxel, atol=1e-4)


def test_a_place_in_an_image_without_directions(tmp_path):
    labels = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "cup": 1}})
    image_io.imsave(tmp_path / "eye.png", np.eye(20, 30, dtype=np.uint8), check_contrast=False)
    reader = NaturalImage2DIO()
    volumes = encode_case(
        CaseSource("eye", PredictionFolder(tmp_path, ".png", labels, reader, {}), SetFolders(tmp_path))
    )
    world = world_affine(reader.read_seg(str(tmp_path / "eye.png"))[1]) @ (0, 7, 12, 1)
    to_voxel = np.array(volumes.description()["to_voxel"])
    np.testing.assert_allclose(to_voxel @ (*volumes.place_mm(world[:3]), 1), (12, 7, 0), atol=1e-9)


def test_inner_and_outer_masks_may_overlap(decided, predictions):
    case = review_cases(read_review(open_reviewed(decided), ()), open_folder)[0]
    masks = {layer.name: layer for layer in encode_case(case.source).masks}
    assert [layer.kind for layer in masks.values()] == ["classes", "samples", "bits", "bits"]
    assert masks["outer"].labels == ("misses 10 % at most",)
    inside = sitk.GetArrayFromImage(sitk.ReadImage(str(predictions / "case_0002.nii.gz"))) == 1
    for which, shift in (("inner", 1), ("outer", -1)):
        expected = np.roll(inside, shift, axis=1) + 2 * np.roll(inside, shift + 1, axis=1)
        np.testing.assert_array_equal(decode(masks[which]), expected)
        assert {1, 2, 3} <= set(np.unique(expected))


def test_more_masks_than_bits_are_told(tmp_path):
    names = tuple(f"organ {index}" for index in range(18))
    agreement = {case: (0.9, *values[1:] * 17) for case, values in AGREEMENT.items()}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(new_cases, "AGREEMENT", agreement)
        decided = write_decisions(
            tmp_path / "decided", write_predictions(tmp_path / "many", structures=names), structures=names
        )
    case = review_cases(read_review(open_reviewed(decided), ()), open_folder)[0]
    masks = {layer.name: layer for layer in encode_case(case.source).masks}
    assert masks["outer"].labels == ("misses 10 % at most, the first 16 of 18 structures",)
    assert decode(masks["outer"]).max() >= 2**15
    for path in (decided / "inner").glob("*/*.nii.gz"):
        image = sitk.ReadImage(str(path))
        sitk.WriteImage(image * 0, str(path))
    assert {layer.name: layer for layer in encode_case(case.source).masks}["inner"].labels == ("empty",)


def test_what_is_missing_and_how_to_get_it(tmp_path, predictions, decided):
    def lacking(folder, segmented=()):
        review = read_review(open_reviewed(folder), segmented)
        return dict(missing(review, review_cases(review, open_folder)))

    assert lacking(decided) == {}
    (told,) = lacking(predictions, sorted(AGREEMENT)).values()
    assert f"nnunet_stochastic_apply_calibration -i {predictions} " in told
    bare = write_predictions(tmp_path / "bare", num_samples=0)
    for name in ("uncertainty.json", "structures.csv", "lesions.csv", "total/case_0000.nii.gz"):
        (bare / name).unlink()
    for path in bare.glob("*/*"):
        path.unlink()
    found = lacking(bare, sorted(AGREEMENT))
    assert list(found)[1:] == [
        *("volumes and agreement of samples", "maps of uncertainty", "whole samples to flip through"),
        *("lesions", "images"),
    ]
    assert "--save_samples" in found["whole samples to flip through"]
    assert "--lesions" in found["lesions"]
    predictions.rename(tmp_path / "moved")
    ((what, told),) = lacking(decided).items()
    assert what == "images, segmentations, maps, samples and masks"
    assert "put the predictions back" in told


def test_images_that_have_moved(predictions, tmp_path):
    (predictions.parent / "images").rename(tmp_path / "moved")
    review = read_review(open_reviewed(predictions), sorted(AGREEMENT))
    cases = review_cases(review, open_folder)
    assert dict(missing(review, cases))["images of 3 of 3 cases"].endswith("name their folder with --images")
    labels = open_folder(predictions).labels
    found = PredictionFolder.of(
        predictions, file_ending=".nii.gz", labels=labels, reader=SimpleITKIO(), image_folders=[tmp_path / "moved"]
    )
    assert found.images == {case: tmp_path / "moved" / f"{case}_0000.nii.gz" for case in AGREEMENT}


def test_a_case_of_an_interrupted_prediction_is_not_shown(predictions):
    record = json.loads((predictions / "uncertainty.json").read_text())
    del record["cases"]["case_0001"]
    (predictions / "uncertainty.json").write_text(json.dumps(record | {"other_cases": ["case_0001"]}))
    cases = review_cases(read_review(open_reviewed(predictions), sorted(AGREEMENT)), open_folder)
    sources = {case.row["case"]: case.source for case in cases}
    assert sources["case_0001"].startswith("its files are of an earlier prediction")
    assert isinstance(sources["case_0000"], CaseSource)


def test_the_page_says_what_it_rests_on(decided, predictions):
    page = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page_of(decided), flags=re.DOTALL)
    assert "rest on 24 validation cases of 21 patients" in page
    assert "<li>rim: dice: too few of this</li>" in page
    assert "what it reaches at least in 90 % of new patients" in page
    assert "misses at most 10 % of the reference" in page
    assert str(predictions) in page
    assert "No calibration was applied" in re.sub(r"<script.*?</script>", "", page_of(predictions, ["case_0000"]))


def test_texts_stay_text(decided):
    page = page_of(decided)
    assert "<b>others" not in page
    assert embedded(page, "rows")["rows"][1]["reason"] == "case_0001 & <b>others</b>"
    assert embedded(page, "rows")["sort"] == ["place", "asc"]
    links = re.findall(r"""\b(?:src|href)\s*=\s*["']([^"']*)""", re.sub(r"<script.*?</script>", "", page, flags=re.S))
    assert all(link.startswith(("data:", "#")) for link in links)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("review.csv", "place,", "number,", r"review\.csv: the header lacks place.* --method decisions again"),
        ("review.csv", "1,case_0002", "first,case_0002", r"review\.csv: line 2: place must be a number, got 'first'"),
        ("review.csv", "2,case_0001", "2,case_0002", r"review\.csv has several lines of case_0002"),
        ("structures.csv", "case_0001,nodule,", "case_0001,nodule,9", r"voxels of nodule for case_0001, .* anew since"),
        ("decisions.json", '"predictions"', '"of"', r"decisions\.json: predictions: .*missing"),
    ],
)
def test_what_is_wrong_with_decisions_is_said(decided, name, old, new, message):
    text = (decided / name).read_text()
    assert old in text
    (decided / name).write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_review(open_reviewed(decided), ())


def test_a_table_that_is_gone(decided):
    (decided / "structures.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"structures\.csv does not exist; run nnunet_stochastic_apply_calibra"):
        read_review(open_reviewed(decided), ())


def test_one_structure_has_no_column_of_its_own(tmp_path):
    names = STRUCTURES[:1]
    decided = write_decisions(
        tmp_path / "decided", write_predictions(tmp_path / "one", structures=names), structures=names
    )
    fields = [column["field"] for column in embedded(page_of(decided), "rows")["columns"]]
    assert fields[:5] == ["place", "predicted_dice", "volume_ml", "removed", "reason"]
    assert (decided / "outer" / "case_0000.nii.gz").is_file()
