"""The command: from evaluation folders to one file; user errors end in one message."""

import json
import re

import pytest

from nnunet_stochastic.commands.report import main
from tests.report import results

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


def test_a_folder_that_is_no_evaluation(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "lacks summary.json, images.csv, scores.csv, curves.json" in capsys.readouterr().err
