"""The command from evaluation folders to tables; LaTeX is checked cell by cell, errors end in one message."""

import json
import re

import pandas as pd
import pytest

from nnunet_stochastic.commands.compare import main
from tests.evaluation import evaluation_folder as made_up

GEDS = ["GED (1 - IoU) ↓", "GED (1 - Dice) ↓"]
TEXTS = ("performance", "segmentation", "table2_entanglement", "table2_performance", "table3")


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Two datasets: one of three seeds with a deterministic model, and one with a model of another name."""
    root = tmp_path_factory.mktemp("compare")
    folders = []
    for seed, dice in ((0, 0.7), (1, 0.8), (2, 0.84)):
        folders += made_up.write_models(root / f"seed{seed}", seed=seed, dice=dice)
        deterministic = made_up.deterministic_summary(seed=seed)
        folders.append(made_up.write_folder(root / f"deterministic{seed}", deterministic))
    for folder in made_up.write_models(root / "other", dataset="Dataset7_50%|a"):
        folders.append(folder)
    summary = json.loads((folders[-1] / "summary.json").read_text())
    summary["model"]["aleatoric"] = "MoB_x"
    (folders[-1] / "summary.json").write_text(json.dumps(summary))
    assert run(*folders, "-o", root / "out") == 0
    return root / "out"


def markdown_cells(path):
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({len(row) for row in rows}) == 1
    assert all(re.fullmatch("---:?", cell) for cell in rows[1])
    return [rows[0], *rows[2:]]


def test_everything_is_written(output):
    names = [f"{name}.{ending}" for name in TEXTS for ending in ("csv", "md", "tex")]
    assert sorted(path.name for path in output.iterdir()) == sorted([*names, "comparison.csv", "missing.csv"])


def test_comparison_csv(output):
    table = pd.read_csv(output / "comparison.csv", dtype={"seed": str}, keep_default_na=False, na_values={"rank": ""})
    columns = ["dataset", "seed", "aleatoric", "epistemic", "task", "split", "quantity", "value", "rank"]
    columns.insert(4, "model")
    assert table.columns.tolist() == [*columns, "epistemic_is_stand_in"]
    assert len(table) == (3 * 4 + 3) * 18
    found = table.set_index(columns[:-2])
    row = found.loc[(made_up.DATASET, "2", "SSN", "none", "SSN / No EU", "OODD", "ID and OOD", "EU AUROC")]
    assert (float(row["value"]), row["rank"]) == (0.6, 3)


def test_table_2(output):
    ranks = pd.read_csv(output / "table2_performance.csv", keep_default_na=False).query("task == 'overall'")
    ranks = ranks.set_index(["dataset", "aleatoric", "epistemic"])
    assert float(ranks.loc[(made_up.DATASET, "SSN", "ensemble"), "mean"]) == pytest.approx(4 / 3)
    assert ranks.loc[(made_up.DATASET, "SSN", "ensemble"), "num_seeds"] == 3
    other, first = r"Dataset7_50%\|a", made_up.DATASET
    assert markdown_cells(output / "table2_performance.md") == [
        ["epistemic", f"{first}: Softmax", f"{first}: SSN", f"{other}: SSN", f"{other}: MoB_x"],
        ["No EU", "N/A", "2.3 ± 0.0", "2.3", "–"],
        ["Folds (splits unknown)", "2.3 ± 0.0", "1.3 ± 0.0", "1.3", "2.3"],
    ]
    assert markdown_cells(output / "table2_entanglement.md")[1:] == [
        ["No EU", "N/A", "2.4 ± 0.0", "2.4", "–"],
        ["Folds (splits unknown)", "1.8 ± 0.0", "1.8 ± 0.0", "1.8", "1.8"],
    ]


def test_table_3(output):
    cells = {tuple(row[:2]): row[2:] for row in markdown_cells(output / "table3.md")[1:]}
    tasks = ("OOD detection", "Ambiguity", "Calibration", "Overall")
    datasets = ("all datasets", made_up.DATASET, r"Dataset7_50%\|a")
    assert list(cells) == [(dataset, task) for dataset in datasets for task in tasks]
    softmax, ssn, none = "Softmax / Folds (splits unknown)", "SSN / Folds (splits unknown)", "SSN / No EU"
    # Mean ranks of AMB are 1.5, 1.5, 3 (performance) and 1.5, 2, 2.5 (Δ) of SSN, SSN ensemble and softmax ensemble.
    assert cells[made_up.DATASET, "OOD detection"] == [f"{ssn}, {softmax}", ssn, ssn]
    assert cells[made_up.DATASET, "Ambiguity"] == [f"{ssn}, {none}", none, f"{none}, {ssn}"]
    assert cells[made_up.DATASET, "Calibration"] == [ssn, softmax, f"{ssn}, {softmax}"]
    assert cells[made_up.DATASET, "Overall"] == [ssn, f"{ssn}, {softmax}", ssn]
    assert cells["all datasets", "Calibration"][1] == ssn  # softmax is not in both datasets


def test_performance(output):
    head, *rows = markdown_cells(output / "performance.md")
    assert head[2:8] == ["Dice ↑", "NLL ↓", "ECE ↓", "MCE ↓", *GEDS]
    assert head[8:] == [
        *("EU AUROC ↑", "AU NCC ID ↑", "AU NCC OOD ↑", "TU ACE ID ↓", "TU ACE OOD ↓", "EU/AU ID", "EU/AU OOD"),
    ]
    cells = {tuple(row[:2]): dict(zip(head[2:], row[2:], strict=True)) for row in rows}
    # t(0.975, 2) = 4.3027; sd of 0.7, 0.8, 0.84 is 0.072111
    assert cells[made_up.DATASET, "SSN / Folds (splits unknown)"]["Dice ↑"] == "0.780 ± 0.179"
    assert cells[made_up.DATASET, "SSN / Folds (splits unknown)"]["TU ACE OOD ↓"] == "0.1000 ± 0.0000"
    deterministic = cells[made_up.DATASET, "Softmax / No EU"]
    assert [deterministic[name] for name in ("EU AUROC ↑", "AU NCC ID ↑", "EU/AU OOD")] == ["N/A"] * 3
    assert [deterministic[name] for name in ("TU ACE ID ↓", GEDS[0])] == ["0.0100 ± 0.0000", "–"]


def test_segmentation(output):
    head, *rows = markdown_cells(output / "segmentation.md")
    assert head == ["dataset", "model", "Dice ↑", "NLL ↓", "ECE ↓", "MCE ↓", *GEDS]
    cells = {tuple(row[:2]): row[2:] for row in rows}
    # The sd of 0.7, 0.8, 0.84 is 0.072111; the deterministic model has 0.8 in each seed.
    assert cells[made_up.DATASET, "SSN / No EU"][:2] == ["0.780 ± 0.072", "**0.0500 ± 0.0000**"]
    assert cells[made_up.DATASET, "Softmax / No EU"][0] == "**0.800 ± 0.000**"
    # Of the two distances that of the convention is marked.
    assert cells[made_up.DATASET, "Softmax / No EU"][-2:] == ["–", "–"]
    assert cells[made_up.DATASET, "SSN / Folds (splits unknown)"][-2:] == ["0.350 ± 0.000", "**0.300 ± 0.000**"]
    numbers = pd.read_csv(output / "segmentation.csv").set_index(["dataset", "aleatoric", "epistemic", "quantity"])
    assert numbers.loc[(made_up.DATASET, "SSN", "none", "Dice"), "sd"] == pytest.approx(0.0721110, rel=1e-5)
    assert set(numbers.index.get_level_values("quantity")) == {name.rstrip(" ↑↓") for name in head[2:]}


@pytest.mark.parametrize("name", TEXTS)
def test_latex_has_the_cells_of_the_markdown(output, name):
    text = (output / f"{name}.tex").read_text()
    text.encode("ascii")
    assert text.count("{") == text.count("}")
    for begin in re.findall(r"\\begin\{(\w+)\}", text):
        assert f"\\end{{{begin}}}" in text
    assert not re.search(r"(?<!\\)[%#_]", text)
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1]
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    for line in lines:
        spanned = sum(int(width) - 1 for width in re.findall(r"\\multicolumn\{(\d+)\}", line))
        assert len(re.findall(r"(?<!\\)&", line)) + spanned == len(columns) - 1, line
    expected = markdown_cells(output / f"{name}.md")
    assert len(columns) == len(expected[0])
    found = [
        [
            re.sub(r"\\textbf{(.*)}", r"**\1**", cell.strip())
            .replace(r" $\pm$ ", " ± ")
            .replace("--", "–")
            .replace(r"$\dagger$", "†")
            .replace(r"\_", "_")
            for cell in re.split(r"(?<!\\)&", line[:-2])
        ]
        for line in lines[-len(expected) + 1 :]
    ]
    levels = columns.count("l")
    assert [row[levels:] for row in found] == [row[levels:] for row in expected[1:]]


def test_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    folders = made_up.write_models(tmp_path / "a")
    folders.append(made_up.write_models(tmp_path / "b", dataset="Dataset502_B")[0])
    assert run(*folders, "-o", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    lines = [line.strip() for line in printed.splitlines()]
    datasets = (made_up.DATASET, "Dataset502_B")
    titles = [f"{title}: {dataset}" for title in ("Performance", "Best per task") for dataset in datasets]
    for title in (*titles, "Best per task: all datasets", "Performance rank ↓", "Entanglement rank ↓"):
        assert title in lines
    rows = [line.split() for line in lines if line.startswith("SSN / No EU")]
    assert rows[0][4:] == "0.800 0.0500 0.0120 0.100 0.350 0.300 0.600 0.500 0.300 0.1000 0.3000 0.1200 0.2000".split()
    assert "missing: SSN / Folds (splits unknown), dataset Dataset502_B, task all, split all: no result" in printed
    missing = pd.read_csv(tmp_path / "out" / "missing.csv")
    assert missing["dataset"].tolist() == ["Dataset502_B"] * 2


def test_folders_from_the_table_of_runs(tmp_path):
    folders = made_up.write_models(tmp_path)
    lines = [f"{folder.name},{seed}" for seed, folder in enumerate(folders)]
    (tmp_path / "runs.csv").write_text("\n".join(["folder,seed", *lines]))
    assert run("--runs", tmp_path / "runs.csv", "-o", tmp_path / "out") == 0
    assert pd.read_csv(tmp_path / "out" / "comparison.csv")["seed"].unique().tolist() == [0, 1, 2]


def test_an_ensemble_is_the_run_of_each_seed(tmp_path):
    """The ensemble is the best of seed 0 and the second of seed 1; as a result it counts once."""
    models = {
        "ensemble": ("ensemble", 0.8, 0.30),
        "none_0": ("none", 0.7, 0.20),
        "none_1": ("none", 0.9, 0.40),
    }
    for name, (epistemic, dice, ncc) in models.items():
        numbers = ((0.9 if epistemic == "ensemble" else 0.6, ncc, ncc, 0.1, 0.1), (0.1,) * 5)
        summary = made_up.summary_of("SSN", epistemic, numbers=numbers, dice=dice)
        made_up.write_folder(tmp_path / name, summary)
    (tmp_path / "runs.csv").write_text("folder,seed\nensemble,0\nensemble,1\nnone_0,0\nnone_1,1\n")
    assert run("--runs", tmp_path / "runs.csv", "-o", tmp_path / "out") == 0
    ranks = pd.read_csv(tmp_path / "out" / "table2_performance.csv").set_index(["epistemic", "task"])
    assert ranks.loc[("ensemble", "AMB"), ["mean", "num_seeds"]].tolist() == [1.5, 2]
    assert ranks.loc[("none", "OODD"), ["mean", "num_seeds"]].tolist() == [2, 2]
    segmentation = pd.read_csv(tmp_path / "out" / "segmentation.csv").query("quantity == 'Dice'").set_index("epistemic")
    assert segmentation.loc["ensemble", ["mean", "num_seeds"]].tolist() == [0.8, 1]
    assert segmentation.loc["none", "mean"] == pytest.approx(0.8)
    assert segmentation["sd"].isna().to_dict() == {"ensemble": True, "none": False}
    cells = {row[1]: row[2] for row in markdown_cells(tmp_path / "out" / "segmentation.md")[1:]}
    assert cells == {"SSN / No EU": "**0.800 ± 0.141**", "SSN / Folds (splits unknown)": "**0.800**"}


def test_dice_in_percent_is_that_of_a_convention(tmp_path):
    folders = made_up.write_models(
        tmp_path, change=lambda summary: summary.update(convention="mixture_of_bases", num_bins=50), dice=0.84911
    )
    assert run(*folders, "-o", tmp_path / "out") == 0
    for name in ("segmentation", "performance"):
        head, *rows = markdown_cells(tmp_path / "out" / f"{name}.md")
        assert head[2] == "Dice (%) ↑"
        assert {row[2].strip("*") for row in rows} == {"84.91"}
    assert pd.read_csv(tmp_path / "out" / "segmentation.csv").query("quantity == 'Dice'")["mean"].eq(0.84911).all()


def test_ace_of_a_dataset(tmp_path, capsys):
    folders = made_up.write_models(tmp_path)
    assert run(*folders, "-o", tmp_path / "out", "--ace", f"{made_up.DATASET}=per_image") == 0
    table = pd.read_csv(tmp_path / "out" / "comparison.csv").query("quantity == 'TU ACE' and split == 'ID'")
    assert table["value"].tolist() == pytest.approx([0.95, 0.9, 0.8])  # by epistemic method and name
    assert f"ACE of {made_up.DATASET} is the mean over images." in (tmp_path / "out" / "performance.md").read_text()
    capsys.readouterr()
    for text, message in (
        (["x"], "--ace takes DATASET=ACE, ACE one of per_image, dataset; got 'x'"),
        ([f"{made_up.DATASET}=image"], "got 'Dataset501_LIDC=image'"),
        ([f"{made_up.DATASET}=dataset"] * 2, "names Dataset501_LIDC twice"),
        (["Dataset9=dataset"], "of which there is no run"),
    ):
        assert run(*folders, "-o", tmp_path / "out", "--ace", *text) == 1
        assert message in capsys.readouterr().err


def test_errors(tmp_path, capsys):
    folders = made_up.write_models(tmp_path)
    assert run("-o", tmp_path / "out") == 1
    assert "name the evaluation folders" in capsys.readouterr().err
    assert run(folders[0], folders[0], "-o", tmp_path / "out") == 1
    assert "are the same run" in capsys.readouterr().err
    assert run(*folders, "-o", folders[0] / "summary.json") == 1
    assert "is a file; name a folder" in capsys.readouterr().err
    assert run(*folders, "--runs", tmp_path / "absent.csv", "-o", tmp_path / "out") == 1
    assert "absent.csv" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


NOTE = "† one member: its aleatoric samples stand in for members; not to be read as epistemic uncertainty."


@pytest.fixture(scope="module")
def with_stand_in(tmp_path_factory):
    """SSN without epistemic method is one member; of softmax's ensemble it is not known."""
    root = tmp_path_factory.mktemp("stand_in")
    said = {"SSN none": True, "SSN ensemble": False, "Softmax ensemble": None}

    def describe(summary):
        model = summary["model"]
        model["epistemic_is_stand_in"] = said[f"{model['aleatoric']} {model['epistemic']}"]

    folders = made_up.write_models(root, change=describe)
    folders.append(made_up.write_folder(root / "deterministic", made_up.deterministic_summary()))
    assert run(*folders, "-o", root / "out") == 0
    return root / "out"


def test_numbers_of_eu_of_one_member_are_marked(with_stand_in):
    head, *rows = markdown_cells(with_stand_in / "performance.md")
    cells = {row[1]: dict(zip(head, row, strict=True)) for row in rows}
    marked = {(model, name) for model, of_model in cells.items() for name, text in of_model.items() if "†" in text}
    assert marked == {("SSN / No EU", name) for name in ("EU AUROC ↑", "EU/AU ID", "EU/AU OOD")}
    assert cells["SSN / No EU"]["EU AUROC ↑"] == "0.600 †"
    assert "†" not in (with_stand_in / "segmentation.md").read_text()
    for name, rank in (("performance", "2.3"), ("entanglement", "2.4")):
        no_epistemic, ensemble = markdown_cells(with_stand_in / f"table2_{name}.md")[1:]
        assert no_epistemic == ["No EU", "N/A", f"{rank} †"]
        assert not any("†" in cell for cell in ensemble)
    ambiguity = next(row for row in markdown_cells(with_stand_in / "table3.md") if row[1] == "Ambiguity")
    # The performance of the ambiguity is that of AU alone.
    assert ambiguity[2:] == [
        "SSN / Folds (splits unknown), SSN / No EU",
        "SSN / No EU †",
        "SSN / No EU †, SSN / Folds (splits unknown)",
    ]
    for name in ("performance", "table2_performance", "table2_entanglement", "table3"):
        assert NOTE in (with_stand_in / f"{name}.md").read_text()
        assert NOTE.replace("†", r"$\dagger$") in (with_stand_in / f"{name}.tex").read_text()
        test_latex_has_the_cells_of_the_markdown(with_stand_in, name)


@pytest.mark.parametrize("name", ["comparison", *TEXTS])
def test_csv_has_plain_numbers_and_a_column_that_says_it(with_stand_in, name):
    assert "†" not in (with_stand_in / f"{name}.csv").read_text()
    table = pd.read_csv(with_stand_in / f"{name}.csv", dtype=str, keep_default_na=False)
    assert table.columns[-1] == "epistemic_is_stand_in"
    said = set(table[["aleatoric", "epistemic", "epistemic_is_stand_in"]].itertuples(index=False, name=None))
    expected = {("SSN", "none", "True"), ("SSN", "ensemble", "False"), ("Softmax", "ensemble", "")}
    assert said - {("Softmax", "none", "False")} == expected


def test_nothing_is_marked_without_a_stand_in(output):
    assert not any("†" in (output / f"{name}.md").read_text() for name in TEXTS)


def bold(path):
    return [[cell.startswith("**") for cell in row[2:]] for row in markdown_cells(path)[1:]]


def test_a_failed_model_is_neither_bold_nor_best(tmp_path):
    """Nothing segmented: Dice 0.035, and by that the best of every calibration error and GED."""

    def change(summary):
        if summary["model"]["aleatoric"] == "Softmax":
            scores = summary["results"]["raters"]["all classes"]
            scores["mean"] |= {"dice": 0.035, "nll": 0.001}
            scores["dataset"] |= {"ece": 0.001, "mce": 0.001}
            summary["tasks"]["GED"]["dice"]["ID"] = 0.01
            summary["tasks"]["OODD"]["EU"] = 1.0
            for name in ("OODD", "AMB", "CAL"):
                for entry in [summary["delta"][name]] if name == "OODD" else summary["delta"][name].values():
                    entry["value"] = 1.0

    folders = made_up.write_models(tmp_path / "a", change=change)
    assert run(*folders, "-o", tmp_path / "out") == 0
    names = [row[1] for row in markdown_cells(tmp_path / "out" / "segmentation.md")[1:]]
    assert names == ["Softmax / Folds (splits unknown)", "SSN / No EU", "SSN / Folds (splits unknown)"]
    # Dice, NLL, ECE and MCE of the others are equal, and of the GEDs the convention's is marked.
    others = [True] * 4 + [False, True]
    assert bold(tmp_path / "out" / "segmentation.md") == [[False] * 6, others, others]
    for name, cells in (("performance", ["1.8", "1.2"]), ("entanglement", ["1.7", "1.3"])):
        table = markdown_cells(tmp_path / "out" / f"table2_{name}.md")
        assert table[1:] == [["No EU", "N/A", cells[0]], ["Folds (splits unknown)", "failed", cells[1]]]
    assert "Softmax" not in "".join(cell for row in markdown_cells(tmp_path / "out" / "table3.md") for cell in row)
    reason = "The segmentation of Softmax / Folds (splits unknown) has failed in Dataset501_LIDC, so that it is in no "
    reason += "rank and never the best: Dice 0.035 is below half of the best, 0.800."
    for name in TEXTS:
        assert reason in (tmp_path / "out" / f"{name}.md").read_text()
    assert pd.read_csv(tmp_path / "out" / "missing.csv").empty


def test_one_entrant_is_neither_bold_nor_best(tmp_path):
    def change(summary):
        if summary["model"]["epistemic"] == "none":
            summary["results"]["raters"]["all classes"]["dataset"]["ece"] = None
        if summary["model"]["aleatoric"] == "SSN":
            del summary["tasks"]["AMB"], summary["delta"]["AMB"]

    folders = made_up.write_models(tmp_path, change=change)[::2]
    assert run(*folders, "-o", tmp_path / "out") == 0
    rows = bold(tmp_path / "out" / "segmentation.md")
    assert [row[2] for row in rows] == [False, False]  # the ECE of the softmax ensemble alone
    assert [row[1] for row in rows] == [True, True]
    cells = {row[1]: row[2:] for row in markdown_cells(tmp_path / "out" / "table3.md")[1:]}
    assert cells["Ambiguity"] == cells["Overall"] == ["–"] * 3
    assert cells["OOD detection"] == ["Softmax / Folds (splits unknown)"] * 3
    listed = pd.read_csv(tmp_path / "out" / "table3.csv").query("task == 'AMB'")["listed"]
    assert listed.tolist() == [False] * 3


def test_models_of_which_none_has_a_rank(tmp_path):
    folders = []
    for name in ("Softmax", "Deterministic"):
        summary = made_up.deterministic_summary()
        summary["model"]["aleatoric"] = name
        folders.append(made_up.write_folder(tmp_path / name, summary))
    assert run(*folders, "-o", tmp_path / "out") == 0
    assert markdown_cells(tmp_path / "out" / "table3.md")[1:] == [[made_up.DATASET, "Overall", "–", "–", "–"]]


def test_the_raters_are_a_row_of_reference(tmp_path):
    numbers = {"rater_dice": 0.95, "rater_ged_dice": 0.01, "rater_volume_spread": 0.4, "volume_coverage": 0.8}

    def change(summary):
        if summary["model"]["epistemic"] == "ensemble":
            spread = {"sample_volume_spread": 0.1 if summary["model"]["aleatoric"] == "SSN" else 0.3}
            summary["spread"] = {"ID": numbers | spread}

    folders = made_up.write_models(tmp_path / "a", change=change)
    folders += made_up.write_models(tmp_path / "b", dataset="Dataset502_B")
    assert run(*folders, "-o", tmp_path / "out") == 0
    head, *rows = markdown_cells(tmp_path / "out" / "segmentation.md")
    assert head[-2:] == ["volume sd/mean", "volume coverage (0.9)"]
    names = ["Softmax / Folds (splits unknown)", "SSN / No EU", "SSN / Folds (splits unknown)"]
    assert [row[1] for row in rows] == [*names, "raters (for reference)", *names]
    assert [row[-2:] for row in rows[:4]] == [["0.300", "0.800"], ["–", "–"], ["0.100", "0.800"], ["0.400", "–"]]
    # Better than all models, and not marked.
    assert rows[3][2:8] == ["0.950", "–", "–", "–", "–", "0.010"]
    assert bold(tmp_path / "out" / "segmentation.md")[0][:4] == [True] * 4
    assert "Raters: mean Dice of their pairs" in (tmp_path / "out" / "segmentation.md").read_text()


def test_models_have_one_name_in_tables_and_csv(tmp_path):
    folders = made_up.write_models(
        tmp_path, change=lambda summary: summary["model"].update(aleatoric="ProbUNet"), dice=0.8
    )[:2]
    assert run(*folders, "-o", tmp_path / "out") == 0
    expected = ["Prob. U-Net / No EU", "Prob. U-Net / Folds (splits unknown)"]
    for name in ("performance", "segmentation"):
        assert [row[1] for row in markdown_cells(tmp_path / "out" / f"{name}.md")[1:]] == expected
    for name in ("comparison", "performance", "segmentation", "table2_performance", "table2_entanglement", "table3"):
        table = pd.read_csv(tmp_path / "out" / f"{name}.csv")
        assert set(table["model"]) == set(expected)
        assert set(table["aleatoric"]) == {"ProbUNet"}  # as --runs takes it
