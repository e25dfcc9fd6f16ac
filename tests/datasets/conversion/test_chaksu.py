"""Chákṣu from a small made-up folder of its layout: components, cup inside disc, crops, votes, parts."""

import numpy as np
import pytest
from PIL import Image

from nnunet_stochastic.commands.convert_Chaksu import main
from nnunet_stochastic.datasets.conversion import chaksu
from nnunet_stochastic.datasets.conversion.chaksu import plan_chaksu
from nnunet_stochastic.patients import read_patients

SIZE = (150, 200)  # y, x


@pytest.fixture(autouse=True)
def small_discs(monkeypatch):
    """Crops of 32, 48 and 64 pixels, resized to 16."""
    monkeypatch.setattr(chaksu, "DISC_DIAMETERS", {"Bosch": 16.2, "Forus": 24.1, "Remidio": 32.1})
    monkeypatch.setattr(chaksu, "IMAGE_SIZE", 16)


def box(rows, columns):
    mask = np.zeros(SIZE, np.uint8)
    mask[slice(*rows), slice(*columns)] = 255
    return mask


def colours():
    row, column = np.indices(SIZE)
    return np.stack([row, column, 255 - row], axis=-1).astype(np.uint8)


class Folder:
    """Each expert draws the disc in rows 60-100, columns 80-120, and the cup in rows 70-90, columns 90-110."""

    def __init__(self, path):
        self.path = path
        for split, device, names in (
            ("Train", "Remidio", ("R1", "R2", "R3", "R4", "R5", "R6")),
            ("Test", "Remidio", ("R7",)),
            ("Train", "Bosch", ("B1",)),
            ("Test", "Bosch", ("B2",)),
            ("Test", "Forus", ("F1",)),
        ):
            for name in names:
                photographs = path / split / "1.0_Original_Fundus_Images" / device
                photographs.mkdir(parents=True, exist_ok=True)
                Image.fromarray(colours()).save(photographs / f"{name}.PNG")
                for expert in range(1, 6):
                    self.draw(split, device, name, expert, "Disc", box((60, 100), (80, 120)))
                    self.draw(split, device, name, expert, "Cup", box((70, 90), (90, 110)))

    def mask(self, split, device, name, expert, structure):
        folder = self.path / split / "3.0_Doctors_Annotations_Binary_OD_OC" / f"Expert {expert}" / device
        # As in the data set: one expert's folders are spelt otherwise, and so are names.
        return folder / (structure.lower() if expert == 3 else structure) / f"{name.lower()}.tif"

    def draw(self, split, device, name, expert, structure, mask):
        path = self.mask(split, device, name, expert, structure)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "Chaksu")


def convert(folder, *more):
    return main(["-i", str(folder.path), "-d", "8", "-np", "1", "--disable_progress_bar", *more])


def test_parts(folder, raw, read_json, capsys):
    assert convert(folder) == 0
    dataset = raw / "Dataset008_Chaksu"
    found = {
        suffix: sorted(path.stem for path in (dataset / f"labels{suffix}").iterdir())
        for suffix in ("Tr", "Ts", "OOD_Bosch", "OOD_Forus")
    }
    assert found == {
        "Tr": [f"Remidio_Train_R{n}" for n in range(1, 7)],
        "Ts": ["Remidio_Test_R7"],
        "OOD_Bosch": ["Bosch_Test_B2", "Bosch_Train_B1"],
        "OOD_Forus": ["Forus_Test_F1"],
    }
    names = sorted(name for part in found.values() for name in part)
    assert read_patients(dataset / "patients.csv", names) == {name: name for name in names}
    (split,) = read_json(dataset / "splits_final.json")
    assert len(split["val"]) == 2  # a fifth of 6, rounded up
    assert sorted(split["train"] + split["val"]) == found["Tr"]
    description = read_json(dataset / "dataset.json")
    assert description["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert description["num_raters"] == 5
    assert len(list((dataset / "ratersOOD_Bosch").iterdir())) == 10
    output = capsys.readouterr().out
    assert "2 Bosch, 1 Forus, 7 Remidio" in output
    assert "32 pixels (Bosch), 48 pixels (Forus), 64 pixels (Remidio)" in output
    assert "nnUNetv2_plan_and_preprocess -d 8 -pl nnUNetPlannerResEncM -c 2d" in output


def test_crop_and_resizing(folder, raw, read):
    assert convert(folder) == 0
    dataset = raw / "Dataset008_Chaksu"
    # The discs' middle is row 80, column 100; 64 pixels around it start at row 48, column 68; 4 pixels become one.
    channels = [read(dataset / "imagesTs" / f"Remidio_Test_R7_000{c}.png") for c in range(3)]
    steps = 4 * np.arange(16)
    for channel, expected in zip(
        channels,
        (48 + steps + 1.5, 68 + steps + 1.5, 255 - (48 + steps + 1.5)),
        strict=True,
    ):
        assert channel.dtype == np.uint8
        assert channel.shape == (16, 16)
        rows = channel[:, 0] if channel is not channels[1] else channel[0]
        np.testing.assert_array_equal(rows, np.rint(expected))
    label = read(dataset / "labelsTs" / "Remidio_Test_R7.png")
    expected = np.zeros((16, 16))
    expected[3:13, 3:13] = 1
    # The cup's rows 70 to 89 hold the middles, 50 + 4 n, of new pixels 5 to 9.
    expected[5:10, 5:10] = 2
    np.testing.assert_array_equal(label, expected)
    # Bosch: 32 pixels from row 64, column 84, in which all is disc.
    bosch = read(dataset / "labelsOOD_Bosch" / "Bosch_Train_B1.png")
    assert set(np.unique(bosch)) == {1, 2}
    assert (bosch == 2).sum() == 100


def test_largest_component_and_cup_inside_disc(folder, raw, read):
    disc = box((60, 100), (80, 120)) | box((0, 20), (0, 20))
    cup = box((90, 106), (90, 110)) | box((70, 74), (90, 94))  # 6 rows below the disc; a smaller part
    folder.draw("Test", "Remidio", "R7", 1, "Disc", disc)
    folder.draw("Test", "Remidio", "R7", 1, "Cup", cup)
    folder.draw("Test", "Remidio", "R7", 2, "Cup", box((0, 0), (0, 0)))
    assert convert(folder) == 0
    dataset = raw / "Dataset008_Chaksu"
    # The union of the discs reaches down to row 106, so the crop starts 3 rows lower, at 51.
    rater = read(dataset / "ratersTs" / "Remidio_Test_R7_rater0.png")
    middles = 51 + 4 * np.arange(16) + 2, 68 + 4 * np.arange(16) + 2
    expected = np.zeros(SIZE)
    expected[60:100, 80:120] = 1
    expected[90:106, 90:110] = 2
    np.testing.assert_array_equal(rater, expected[np.ix_(*middles)])
    assert set(np.unique(read(dataset / "ratersTs" / "Remidio_Test_R7_rater1.png"))) == {0, 1}


def test_votes(folder, raw, read):
    for expert in (1, 2):
        folder.draw("Test", "Remidio", "R7", expert, "Cup", box((60, 100), (80, 120)))
    for expert in (3, 4):
        folder.draw("Test", "Remidio", "R7", expert, "Cup", box((0, 0), (0, 0)))
    assert convert(folder) == 0
    label = read(raw / "Dataset008_Chaksu" / "labelsTs" / "Remidio_Test_R7.png")
    expected = np.zeros((16, 16))
    expected[3:13, 3:13] = 1  # two cup, three disc
    expected[5:10, 5:10] = 2  # three cup, two disc
    np.testing.assert_array_equal(label, expected)


def test_outside_of_the_photograph_is_black(folder, raw, read):
    for expert in range(1, 6):
        folder.draw("Test", "Remidio", "R7", expert, "Disc", box((0, 10), (190, 200)))
        folder.draw("Test", "Remidio", "R7", expert, "Cup", box((0, 4), (196, 200)))
    assert convert(folder) == 0
    dataset = raw / "Dataset008_Chaksu"
    # Middle at row 5, column 195: the crop starts at row -27, column 163.
    green = read(dataset / "imagesTs" / "Remidio_Test_R7_0001.png")
    padded = np.zeros((64, 64))
    padded[27:, :37] = np.arange(163, 200)
    np.testing.assert_array_equal(green, np.rint(padded.reshape(16, 4, 16, 4).mean((1, 3))))


def test_what_is_skipped(folder, raw, read_json, capsys):
    folder.mask("Train", "Bosch", "B1", 3, "Cup").unlink()
    folder.mask("Train", "Bosch", "B1", 5, "Disc").unlink()
    folder.draw("Test", "Bosch", "B2", 2, "Disc", np.full((5, 5), 255, np.uint8))
    for expert in range(1, 6):
        folder.draw("Test", "Forus", "F1", expert, "Disc", box((0, 0), (0, 0)))
        folder.draw("Test", "Forus", "F1", expert, "Cup", box((0, 0), (0, 0)))
    folder.mask("Train", "Remidio", "R2", 4, "Cup").write_bytes(b"no image")
    assert convert(folder) == 0
    dataset = raw / "Dataset008_Chaksu"
    skipped = read_json(dataset / "conversion.json")["skipped"]
    assert skipped["Bosch_Train_B1"] == "no mask: Expert 3 cup, Expert 5 disc"
    assert "b2.tif has (5, 5) pixels (y, x), the photograph (150, 200)" in skipped["Bosch_Test_B2"]
    assert skipped["Forus_Test_F1"] == "all masks of its disc are empty"
    assert "r2.tif" in skipped["Remidio_Train_R2"]
    assert len(skipped) == 4
    assert read_json(dataset / "dataset.json")["numTraining"] == 5
    output = capsys.readouterr().out
    assert all(name in output for name in skipped)


def turned(picture, orientation):
    """A picture stored such that this EXIF orientation shows it upright."""
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    return picture.transpose(back[orientation]), exif


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_pictures_are_turned_as_exif_says(folder, raw, read, orientation):
    assert convert(folder) == 0
    dataset = raw / "Dataset008_Chaksu"
    names = ["imagesTs/Remidio_Test_R7_0000.png", "imagesTs/Remidio_Test_R7_0001.png", "labelsTs/Remidio_Test_R7.png"]
    upright = [read(dataset / name) for name in names]
    photograph = folder.path / "Test" / "1.0_Original_Fundus_Images" / "Remidio" / "R7.PNG"
    picture, exif = turned(Image.fromarray(colours()), orientation)
    picture.save(photograph, exif=exif)
    mask = folder.mask("Test", "Remidio", "R7", 2, "Disc")
    picture, exif = turned(Image.fromarray(box((60, 100), (80, 120))), orientation)
    mask.unlink()
    picture.save(mask.with_suffix(".png"), exif=exif)
    assert convert(folder, "--overwrite") == 0
    for name, expected in zip(names, upright, strict=True):
        np.testing.assert_array_equal(read(dataset / name), expected)


def transparent(mask):
    return np.stack([np.full_like(mask, 255)] * 3 + [mask], -1)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (transparent(box((60, 100), (80, 120))), "partly transparent"),
        (transparent(box((60, 100), (80, 120)))[..., 2:], "partly transparent"),
        (255 - box((60, 100), (80, 120)), "marks 95% of the photograph"),
        (255 - 254 * (box((60, 100), (80, 120)) > 0).astype(np.uint8), "marks 100% of the photograph"),
    ],
)
@pytest.mark.parametrize("structure", ["Disc", "Cup"])
def test_masks_that_are_none_are_skipped(folder, raw, read_json, picture, reason, structure):
    path = folder.mask("Test", "Remidio", "R7", 1, structure)
    Image.fromarray(picture).save(path)
    assert convert(folder) == 0
    skipped = read_json(raw / "Dataset008_Chaksu" / "conversion.json")["skipped"]
    assert list(skipped) == ["Remidio_Test_R7"]
    assert str(path) in skipped["Remidio_Test_R7"]
    assert reason in skipped["Remidio_Test_R7"]


def test_opaque_masks_in_colour(folder, raw, read):
    assert convert(folder) == 0
    expected = read(raw / "Dataset008_Chaksu" / "labelsTs" / "Remidio_Test_R7.png")
    for expert in range(1, 6):
        disc = box((60, 100), (80, 120))
        folder.draw("Test", "Remidio", "R7", expert, "Disc", np.stack([disc] * 3 + [np.full_like(disc, 255)], -1))
    assert convert(folder, "--overwrite") == 0
    np.testing.assert_array_equal(read(raw / "Dataset008_Chaksu" / "labelsTs" / "Remidio_Test_R7.png"), expected)


def test_damaged_pictures_are_skipped_by_name(folder, raw, read_json):
    photograph = folder.path / "Test" / "1.0_Original_Fundus_Images" / "Remidio" / "R7.PNG"
    photograph.write_bytes(photograph.read_bytes()[:200])
    assert convert(folder) == 0
    skipped = read_json(raw / "Dataset008_Chaksu" / "conversion.json")["skipped"]
    assert f"{photograph} cannot be read" in skipped["Remidio_Test_R7"]


def test_reasons_are_told_where_nothing_is_left(folder, capsys):
    for path in list(folder.path.rglob("Expert 1")):
        path.rename(path.with_name("Expert1"))
    assert convert(folder) == 1
    assert "Remidio_Train_R1: no mask: Expert 1 disc, Expert 1 cup" in capsys.readouterr().err


def test_bad_folders(folder, tmp_path):
    with pytest.raises(ValueError, match="no folder Train/1"):
        plan_chaksu(tmp_path, 8)
    photograph = folder.path / "Train" / "1.0_Original_Fundus_Images" / "Bosch" / "B1.PNG"
    photograph.with_name("b1.jpg").write_bytes(photograph.read_bytes())
    with pytest.raises(ValueError, match="same name"):
        plan_chaksu(folder.path, 8)
