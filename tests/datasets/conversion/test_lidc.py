"""LIDC-IDRI from a made-up database and DICOM series: crops, HU, masks, votes, geometry, splits, what is missing."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.commands.convert_LIDC import main
from nnunet_stochastic.datasets.conversion.lidc import LidcOptions, plan_lidc
from nnunet_stochastic.datasets.conversion.lidc_scans import window

PATIENTS = [f"LIDC-IDRI-{n:04d}" for n in range(1, 6)]


@pytest.fixture
def source(lidc_source):
    """Five patients; a nodule of three annotators in slices 2 and 3, one more slice by one of them."""
    for patient in PATIENTS:
        scan = lidc_source.add_scan(patient)
        lidc_source.annotate(scan, range(2, 4), 10, 20, 6)  # mask: rows 11-15, columns 21-25
        lidc_source.annotate(scan, range(2, 4), 12, 20, 6)  # rows 13-17
        lidc_source.annotate(scan, range(2, 5), 10, 20, 4)  # rows 11-13, columns 21-23
    return lidc_source


def convert(source, *more):
    return main(
        ["-i", str(source.folder), "-db", str(source.database), "-d", "7", "-np", "1", "--disable_progress_bar", *more]
    )


def part_of(dataset, patient, read_json):
    (split,) = read_json(dataset / "splits_final.json")
    for part in ("train", "val"):
        if any(patient in case for case in split[part]):
            return part
    return "test"


@pytest.mark.parametrize(
    ("interval", "size", "limit", "expected"),
    [
        ((10, 14), 6, 40, (9, 15)),
        ((10, 15), 6, 40, (9, 15)),
        ((0, 4), 8, 40, (0, 8)),
        ((38, 40), 8, 40, (32, 40)),
        ((2, 4), 10, 6, (0, 6)),
    ],
)
def test_window_is_centred_and_stays_inside(interval, size, limit, expected):
    assert window(*interval, size, limit) == expected


def test_slices_with_all_annotators(source, raw, read, read_json, scan_hu, capsys):
    assert convert(source, "--mode", "2d", "-crop_pixels", "16") == 0
    dataset = raw / "Dataset007_LIDC2d"
    description = read_json(dataset / "dataset.json")
    assert description["num_raters"] == 4
    assert description["numTraining"] == 4 * 3  # patients, slices
    names = [f"{patient}_scan{n}_nodule0_slice{k:03d}" for n, patient in enumerate(PATIENTS, 1) for k in (2, 3, 4)]
    files = [*(dataset / "labelsTr").iterdir(), *(dataset / "labelsTs").iterdir()]
    assert sorted(file.name for file in files) == [f"{name}.nii.gz" for name in names]
    patients = [f"{name},{patient}" for patient in PATIENTS for name in names if name.startswith(patient)]
    assert (dataset / "patients.csv").read_text().splitlines() == ["case,patient", *patients]

    for name in names:
        k = int(name[-3:])
        suffix = "Ts" if part_of(dataset, name[:14], read_json) == "test" else "Tr"
        # The union of the masks has rows 11-17 and columns 21-25: 16 pixels around it start at row 6, column 15.
        image = sitk.ReadImage(str(dataset / f"images{suffix}" / f"{name}_0000.nii.gz"))
        assert image.GetPixelID() == sitk.sitkInt16
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[0], scan_hu[k, 6:22, 15:31])
        np.testing.assert_allclose(image.GetSpacing(), (0.5, 0.5, 2.0))
        np.testing.assert_allclose(image.GetOrigin(), (-30 + 15 * 0.5, -40 + 6 * 0.5, 100 + 2 * k))
        expected = np.zeros((4, 16, 16), np.uint8)
        if k < 4:
            expected[0, 5:10, 6:11] = 1
            expected[1, 7:12, 6:11] = 1
        expected[2, 5:8, 6:9] = 1
        raters = [read(dataset / f"raters{suffix}" / f"{name}_rater{r}.nii.gz")[0] for r in range(4)]
        np.testing.assert_array_equal(raters, expected)
        label = sitk.ReadImage(str(dataset / f"labels{suffix}" / f"{name}.nii.gz"))
        assert label.GetOrigin() == image.GetOrigin()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(label)[0], expected.sum(0) >= 2)

    output = capsys.readouterr().out
    assert "5 such nodules (drawn 5 by 3) in 15 slices" in output
    assert "15096" in output
    assert "nnUNetv2_plan_and_preprocess -d 7 -pl nnUNetPlannerResEncM -c 2d --verify_dataset_integrity" in output
    assert "nnunet_stochastic_preprocess_raters -d 7 -p nnUNetResEncUNetMPlans -c 2d" in output


def test_a_volume_is_centred_on_the_nodule_within_the_scan(source, raw, read, scan_hu):
    assert convert(source, "--mode", "3d", "-crop_mm", "8") == 0
    dataset = raw / "Dataset007_LIDC3d"
    case = next((dataset / "imagesTs").iterdir())
    image = sitk.ReadImage(str(case))
    # 16 pixels and 4 slices; the masks are in slices 2 to 4, of 0 to 5.
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), scan_hu[1:5, 6:22, 15:31])
    np.testing.assert_allclose(image.GetOrigin(), (-22.5, -37.0, 102.0))
    name = case.name.removesuffix("_0000.nii.gz")
    rater = read(dataset / "ratersTs" / f"{name}_rater2.nii.gz")
    expected = np.zeros((4, 16, 16))
    expected[1:4, 5:8, 6:9] = 1
    np.testing.assert_array_equal(rater, expected)


def test_a_small_crop_grows_to_hold_the_nodule(source, raw, read):
    assert convert(source, "--mode", "3d", "-crop_mm", "1") == 0
    (label,) = (raw / "Dataset007_LIDC3d" / "labelsTs").iterdir()
    assert read(label).shape == (3, 7, 5)


def test_exactly_four_annotators(source, raw, read_json, capsys):
    for scan in (1, 2, 3, 4):
        source.annotate(scan, range(2, 4), 11, 20, 5)
    assert convert(source, "--mode", "2d", "--annotators", "exactly_four") == 0
    dataset = raw / "Dataset007_LIDC2d"
    (split,) = read_json(dataset / "splits_final.json")
    assert {part: len({case[:14] for case in cases}) for part, cases in split.items()} == {"train": 2, "val": 1}
    assert read_json(dataset / "conversion.json")["skipped"] == {
        "LIDC-IDRI-0005_scan5, annotations 13, 14, 15": "fewer than four annotations"
    }
    assert "4 such nodules (drawn 4 by 4) in 12 slices" in capsys.readouterr().out


def test_two_scans_are_of_one_patient(source):
    again = source.add_scan(PATIENTS[0], files=False)  # the same series
    source.annotate(again, range(2, 4), 10, 20, 6)
    patients = plan_lidc(source.folder, source.database, 7, LidcOptions(mode="3d")).patients
    assert patients[f"{PATIENTS[0]}_scan1_nodule0"] == patients[f"{PATIENTS[0]}_scan{again}_nodule0"] == PATIENTS[0]
    assert sorted(set(patients.values())) == PATIENTS
    assert len(patients) == 6


def test_patients_keep_their_part_when_more_scans_come(source, raw, read_json):
    def parts():
        conversion = plan_lidc(source.folder, source.database, 7, LidcOptions(mode="2d"))
        return {case[:14]: part for case, part in conversion.parts.items()}

    before = parts()
    assert sorted(before.values()) == ["test", "train", "train", "train", "val"]
    hidden = source.folder / "LIDC-IDRI-0003"
    hidden.rename(source.folder / "elsewhere")
    assert parts() == {patient: part for patient, part in before.items() if patient != hidden.name}
    seeds = [plan_lidc(source.folder, source.database, 7, LidcOptions(mode="2d", seed=seed)).parts for seed in range(4)]
    assert len({tuple(sorted(seed.items())) for seed in seeds}) > 1


def test_what_is_missing_is_listed_and_the_rest_converted(source, raw, read_json, capsys):
    scan = source.add_scan("LIDC-IDRI-0006", files=False)
    source.annotate(scan, range(2, 4), 10, 20, 6)
    slices = sorted((source.folder / "LIDC-IDRI-0002").rglob("*.dcm"))
    slices[4].unlink()  # z = 108 mm, slice 4
    slices[3].write_bytes(b"no DICOM file")
    crowd = source.add_scan("LIDC-IDRI-0007")
    for k in range(5):
        source.annotate(crowd, range(2, 3), 10, 20 + k % 2, 6)  # in contact at every distance
    other = source.add_scan("LIDC-IDRI-0008", files=False)
    source.annotate(other, range(2, 4), 10, 20, 6)
    (source.folder / "LIDC-IDRI-0008").mkdir()
    assert convert(source, "--mode", "2d") == 0
    skipped = read_json(raw / "Dataset007_LIDC2d" / "conversion.json")["skipped"]
    assert skipped == {
        "LIDC-IDRI-0007_scan7, annotations 17, 18, 19, 20, 21": "more than four annotations, which pylidc's "
        "clustering cannot tell apart",
        "LIDC-IDRI-0002_scan2_nodule0_slice003": "no slice at z = 106 mm",
        "LIDC-IDRI-0002_scan2_nodule0_slice004": "no slice at z = 108 mm",
        "LIDC-IDRI-0006_scan6": "the folder of its patient is missing",
        "LIDC-IDRI-0008_scan8": "no DICOM file in the folder of its patient is of its series",
    }
    output = capsys.readouterr().out
    assert all(name in output for name in skipped)
    assert "of them 13 slices are in scans that are here" in output


def test_volumes_need_evenly_spaced_slices_and_slices_do_not(source, tmp_path):
    scan = source.add_scan("LIDC-IDRI-0006", positions_mm=[100, 102, 104, 106, 110, 112])
    source.annotate(scan, range(3, 5), 10, 20, 6)
    volumes = plan_lidc(source.folder, source.database, 7, LidcOptions(mode="3d", crop_mm=4))
    assert [skip.name for skip in volumes.skipped] == ["LIDC-IDRI-0006_scan6_nodule0"]
    assert "unevenly spaced, by 4 to 4 mm instead of 2" in volumes.skipped[0].reason
    slices = plan_lidc(source.folder, source.database, 7, LidcOptions(mode="2d"))
    assert not slices.skipped
    assert sum("0006" in case for case in slices.parts) == 2


def test_of_two_slices_at_one_place_the_first_taken_counts_and_other_series_do_not(source, raw, read, scan_hu):
    for patient in PATIENTS:
        source.write_slice(patient, scan_hu[2] * 0, 104.0, instance=99)
        source.write_slice(patient, scan_hu[2] * 0, 104.0, instance=0, series="5")
    assert convert(source, "--mode", "2d", "-crop_pixels", "16") == 0
    (image,) = (raw / "Dataset007_LIDC2d" / "imagesTs").glob("*slice002_0000.nii.gz")
    np.testing.assert_array_equal(read(image)[0], scan_hu[2, 6:22, 15:31])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "4d"}, "mode must be 2d or 3d"),
        ({"mode": "2d", "annotators": "some"}, "annotators must be all or exactly_four"),
        ({"mode": "3d", "crop_mm": 0.0}, "larger than 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        LidcOptions(**options)


def test_bad_folder(source, raw, capsys):
    assert main(["-i", str(source.folder / "absent"), "-db", str(source.database), "-d", "7", "--mode", "2d"]) == 1
    assert "LIDC-IDRI-0001" in capsys.readouterr().err
