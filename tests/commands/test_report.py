"""The command: from evaluation folders to one file; user errors end in one message."""

import json
import re

import pytest

from nnunet_stochastic.commands.report import main
from tests.report import results
from tests.report.new_cases import write_decisions, write_predictions

QUIET = ("-np", "2", "--disable_progress_bar")


def embedded(page, name):
    return json.loads(re.search(rf'id="data-{name}">(.*?)</script>', page, flags=re.DOTALL)[1])


def test_one_model_with_files(tmp_path, capsys):
    folder = results.write_result(tmp_path, files=True, num_cases=2, shifts=("blur",))
    assert main([str(folder), "--viewer_cases", "3", "--title", "Lung nodules", *QUIET]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<h1>Lung nodules</h1>" in page
    rows, thumbnails, volumes = (embedded(page, name) for name in ("rows", "thumbnails", "volumes"))
    assert len(rows["rows"]) == len(thumbnails) == 4
    assert all(thumbnail.startswith("data:image/webp;base64,") for thumbnail in thumbnails)
    assert sorted(volumes) == ["0", "1", "2"]
    assert [layer["name"] for layer in volumes["0"]["layers"]] == [
        "image",
        "total",
        "aleatoric",
        "epistemic",
        "agreement",
        "annotations",
        "prediction",
    ]
    assert all(f'id="{layer["element"]}"' in page for entry in volumes.values() for layer in entry["layers"])
    assert "1 model, 4 cases, 3 in the viewer" in capsys.readouterr().out
    assert [path.name for path in folder.glob(".*")] == []


def test_a_table_of_runs_is_enough(tmp_path, capsys):
    folders = [results.write_result(tmp_path / name, name="SSNTiny / none", num_cases=2, shifts=()) for name in "ab"]
    table = tmp_path / "runs.csv"
    rows = [f"{folder.relative_to(tmp_path)},{name}" for folder, name in zip(folders, ("SSN", "Softmax"), strict=True)]
    table.write_text("\n".join(["folder,aleatoric", *rows]))
    assert main(["--runs", str(table), "-o", str(tmp_path / "page.html"), *QUIET]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(f"{name} / No EU" in page for name in ("SSN", "Softmax"))
    assert "SSNTiny" not in page
    assert main([]) == 1
    assert "--runs" in capsys.readouterr().err


def test_limits_and_moved_files_are_reported(tmp_path, capsys):
    folder = results.write_result(tmp_path, files=True, num_cases=3, shifts=())
    for image in (tmp_path / "ID" / "images").iterdir():
        image.unlink()
    output = tmp_path / "new" / "page.html"
    assert main([str(folder), "-o", str(output), "--max_megabytes", "0", "--max_thumbnails", "2", *QUIET]) == 0
    page = output.read_text(encoding="utf-8")
    assert embedded(page, "volumes") == {}
    assert [thumbnail is None for thumbnail in embedded(page, "thumbnails")] == [False, False, True]
    assert all("image not found" in row["note"] for row in embedded(page, "rows")["rows"][:2])
    printed = capsys.readouterr().out
    assert printed.count("not in the viewer") == 3
    assert "2 of 3 cases lack" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-np", "0"], "-np must be at least 1"),
        (["--viewer_cases", "-1"], "--viewer_cases must be at least 0"),
        (["-o", "{tmp}"], "-o must be a file"),
    ],
)
def test_wrong_options(tmp_path, capsys, options, message):
    folder = results.write_result(tmp_path / "run")
    assert main([str(folder), *(option.format(tmp=tmp_path) for option in options)]) == 1
    assert message in capsys.readouterr().err


def test_new_cases(tmp_path, capsys):
    predictions = write_predictions(tmp_path / "run")
    decided = write_decisions(tmp_path / "decided", predictions)
    assert main([str(decided), "--viewer_cases", "2", *QUIET]) == 0
    page = (decided / "report.html").read_text(encoding="utf-8")
    assert "<h1>Cases to review</h1>" in page
    assert [row["case"] for row in embedded(page, "rows")["rows"]] == ["case_0002", "case_0001", "case_0000"]
    volumes = embedded(page, "volumes")
    assert sorted(volumes) == ["0", "1"]
    assert [mask["name"] for mask in volumes["0"]["masks"]] == ["prediction", "samples", "outer", "inner"]
    assert len(volumes["0"]["lesions_mm"]) == 2
    printed = capsys.readouterr().out
    assert "missing:" not in printed
    assert "order of the cases: the one to open first on top" in printed
    assert "new cases, 3 cases, 2 in the viewer" in printed

    assert main([str(predictions), "--title", "Plain", *QUIET]) == 0
    page = (predictions / "report.html").read_text(encoding="utf-8")
    assert "<h1>Plain</h1>" in page
    assert [row["case"] for row in embedded(page, "rows")["rows"]] == ["case_0002", "case_0000", "case_0001"]
    assert "missing: predicted Dice" in capsys.readouterr().out


def test_decisions_without_their_predictions_keep_their_rows(tmp_path, capsys):
    predictions = write_predictions(tmp_path / "run")
    decided = write_decisions(tmp_path / "decided", predictions)
    predictions.rename(tmp_path / "moved")
    assert main([str(decided), *QUIET]) == 0
    page = (decided / "report.html").read_text(encoding="utf-8")
    rows = embedded(page, "rows")["rows"]
    assert [row["volume_ml"] for row in rows] == [0.0, 2.5, 1.5]
    assert all("does not exist" in row["note"] for row in rows)
    assert embedded(page, "volumes") == {}
    assert "missing: images, segmentations, maps, samples and masks" in capsys.readouterr().out


def test_new_cases_have_a_page_of_their_own(tmp_path, capsys):
    predictions = write_predictions(tmp_path / "run")
    evaluation = tmp_path / "run" / "evaluation"
    assert main([str(evaluation), str(predictions), *QUIET]) == 1
    assert f"{predictions} is no evaluation but a folder of new cases" in capsys.readouterr().err
    assert main([str(evaluation), "--images", str(tmp_path), *QUIET]) == 1
    assert "--images is for new cases" in capsys.readouterr().err
    assert main([str(predictions), "--images", str(tmp_path / "none"), *QUIET]) == 1
    assert f"{tmp_path / 'none'} (--images) does not exist" in capsys.readouterr().err


def test_a_folder_that_is_no_evaluation(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "lacks summary.json, images.csv, scores.csv, curves.json" in capsys.readouterr().err
