"""Every task of the evaluate command against numbers computed from the arrays, and what is left out and why."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from nnunet_stochastic import metrics

MEASURES = ("AU", "EU", "TU")
SHIFTS = ("blur", "scanner")
VOXEL_ML = 0.7 * 0.9 * 2.5 / 1000


@pytest.fixture(scope="module")
def evaluated(made_once):
    made_once.calibrate()
    assert made_once.evaluate(*made_once.all_tasks()) == 0
    return made_once


def border(case, measure):
    different = sum(np.count_nonzero(np.diff(case.prediction.astype(int), axis=axis)) for axis in range(3))
    return case.maps[measure].sum(dtype=float) / different


def scores(made, name, measure, score=border):
    return np.array([score(case, measure) for case in made.cases[name].values()])


def auroc(negative, positive):
    return roc_auc_score([0] * len(negative) + [1] * len(positive), np.concatenate([negative, positive]))


def test_out_of_distribution(evaluated):
    found = evaluated.summary()["tasks"]["OODD"]
    for measure in MEASURES:
        known = scores(evaluated, "id", measure)
        expected = {shift: auroc(known, scores(evaluated, shift, measure)) for shift in SHIFTS}
        assert {shift: found["shifts"][shift][measure] for shift in SHIFTS} == pytest.approx(expected)
        assert (
            found[measure]
            == found["aggregations"]["border"][measure]
            == pytest.approx(np.mean(list(expected.values())))
        )
    assert found["aggregation"] == "border"


def test_every_aggregation(evaluated):
    table = pd.read_csv(evaluated.root / "out" / "scores.csv").set_index(["set", "case", "measure"])
    assert len(table) == (4 + 3 + 2) * 3
    calibration = json.loads((evaluated.root / "val" / "pred" / "calibration.json").read_text())
    for name, case in evaluated.cases["blur"].items():
        u = case.maps["TU"].astype(float)
        # Patches are as deep as the image, 10 x 10 in the plane.
        patches = [u[:, y : y + 10, x : x + 10].mean() for y in range(3) for x in range(5)]
        threshold = calibration["threshold"]["TU"]
        expected = {
            "mean": u.mean(),
            "patch": max(patches),
            "threshold": u[u >= threshold].mean(),
            "area": u.sum() / (case.prediction == 1).sum(),
            "border": border(case, "TU"),
        }
        found = table.loc[("blur", name, "TU")]
        assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-6)


def ncc(case, measure):
    variance = 2 * case.raters.mean(axis=0) * (1 - case.raters.mean(axis=0))
    return np.corrcoef(case.maps[measure].ravel(), variance.ravel())[0, 1] * (1 - 1 / variance.size)


def test_ambiguity(evaluated):
    found = evaluated.summary()["tasks"]["AMB"]
    for measure in MEASURES:
        assert found["ID"][measure] == pytest.approx(scores(evaluated, "id", measure, ncc).mean(), rel=1e-5)
        assert found["OOD"][measure] == pytest.approx(scores(evaluated, "blur", measure, ncc).mean(), rel=1e-5)
    assert found["shifts"].keys() == {"blur"}


def ace(made, cases, measure):
    """From all voxels, cases and raters at once."""
    platt = json.loads((made.root / "val" / "pred" / "calibration.json").read_text())["platt"][measure]
    confidence = np.concatenate([np.tile(case.maps[measure].ravel(), 3) for case in cases])
    confidence = 1 / (1 + np.exp(-platt["a"] * confidence.astype(float) + platt["b"]))
    correct = np.concatenate([(case.prediction == case.raters).ravel() for case in cases])
    bins = np.clip(np.ceil(confidence * 20).astype(int) - 1, 0, 19)
    return np.mean([abs(confidence[bins == b].mean() - correct[bins == b].mean()) for b in np.unique(bins)])


def test_calibration(evaluated):
    found = evaluated.summary()["tasks"]["CAL"]
    for name, split in (("id", "ID"), ("blur", "OOD")):
        cases = list(evaluated.cases[name].values())
        for measure in MEASURES:
            assert found[split][measure] == pytest.approx(ace(evaluated, cases, measure), rel=1e-3)
            per_image = np.mean([ace(evaluated, [case], measure) for case in cases])
            assert found["per_image"][split][measure] == pytest.approx(per_image, rel=1e-3)
    assert found["annotations"] == "raters"
    curves = json.loads((evaluated.root / "out" / "curves.json").read_text())
    bins = curves["confidence"]["ID"]["EU"]
    assert sum(bins["count"]) == 4 * 3 * evaluated.cases["id"]["a"].prediction.size
    assert len(bins["count"]) == curves["num_bins"]["confidence"] == 20
    assert sum(curves["reliability"]["blur"]["raters"]["nodule"]["count"]) == 3 * 3 * 3 * 12 * 14


def dice(a, b):
    return 2 * np.sum(a * b) / (a.sum() + b.sum())


def test_failure_detection_and_tables(evaluated):
    found = evaluated.summary()["tasks"]["FD"]
    cases = evaluated.cases["id"].values()
    risk = np.array([1 - dice(case.prediction, case.reference) for case in cases])
    order = np.argsort(scores(evaluated, "id", "EU"))
    expected = np.mean(np.cumsum(risk[order]) / np.arange(1, 5))
    assert found["ID"]["EU"]["aurc"] == pytest.approx(expected)
    ideal = np.mean(np.cumsum(np.sort(risk)) / np.arange(1, 5))
    assert found["ID"]["EU"]["e_aurc"] == pytest.approx(expected - ideal)
    generalized = np.append(0, np.cumsum(risk[order])) / 4
    assert found["ID"]["EU"]["augrc"] == pytest.approx(np.trapezoid(generalized, dx=1 / 4))
    assert found["failure_dice"] == 0.7
    failed, uncertainty = risk > 0.3, scores(evaluated, "id", "EU")
    pairs = np.sign(uncertainty[failed][:, None] - uncertainty[~failed]) / 2 + 0.5
    auroc = pairs.mean() if pairs.size else None
    assert found["ID"]["EU"]["failure_auroc"] == (auroc if auroc is None else pytest.approx(auroc))
    images = pd.read_csv(evaluated.root / "out" / "images.csv").set_index(["set", "case"])
    np.testing.assert_allclose(images.loc["ID", "risk"], risk)
    assert images.loc[("blur", "b"), "AU"] == pytest.approx(evaluated.cases["blur"]["b"].maps["AU"].mean(), rel=1e-5)
    volume = evaluated.cases["scanner"]["s"].prediction.sum() * VOXEL_ML
    assert images.loc[("scanner", "s"), "volume_ml"] == pytest.approx(volume)


def test_filtered_dice(evaluated):
    """Masks filtered one threshold at a time, against each rater."""

    def score(case, measure):
        u, thresholds = np.minimum(case.maps[measure] / np.log(2), 1), np.linspace(0, 1, 41)
        scores, of_raters = [], []
        for rater in case.raters:
            a, b = case.prediction == 1, rater == 1
            curves = []
            for threshold in thresholds:
                kept = u <= threshold * (1 + 1e-6) + 1e-6
                size = (a & kept).sum() + (b & kept).sum()
                lost = [1 - (part & kept).sum() / part.sum() for part in (a & b, ~a & ~b)]
                curves.append([2 * (a & b & kept).sum() / size if size else 1, *lost])
            areas = np.trapezoid(curves, thresholds, axis=0)
            scores.append([*areas, (areas[0] + 1 - areas[1] + 1 - areas[2]) / 3])
            of_raters.append(curves)
        return np.mean(scores, axis=0), np.mean(of_raters, axis=0)

    found = evaluated.summary()["tasks"]["FILTER"]
    names = ("filtered_dice", "filtered_tp", "filtered_tn", "filter_score")
    curves = found["curves"]
    np.testing.assert_allclose(curves["thresholds"], np.linspace(0, 1, 41), rtol=0, atol=1e-6)
    for split, of_split, name in (
        (found["ID"], curves["ID"], "id"),
        (found["shifts"]["blur"], curves["shifts"]["blur"], "blur"),
    ):
        for measure in MEASURES:
            scores, of_cases = zip(*(score(case, measure) for case in evaluated.cases[name].values()), strict=True)
            assert [split[measure][key] for key in names] == pytest.approx(np.mean(scores, axis=0), rel=1e-5)
            means = [of_split[measure][f"{key}_curve"] for key in names[:3]]
            np.testing.assert_allclose(np.transpose(means), np.mean(of_cases, axis=0), rtol=0, atol=1e-5)
            areas = np.trapezoid(means, curves["thresholds"], axis=1)
            assert [split[measure][key] for key in names[:3]] == pytest.approx(areas, abs=2e-6)


def ged(case, distance):
    def mean(one, other):
        return np.mean([[distance(a, b) for b in other] for a in one])

    samples, raters = case.samples.astype(bool), case.raters.astype(bool)
    return 2 * mean(samples, raters) - mean(samples, samples) - mean(raters, raters)


def pooled_ged(case):
    """By one Dice of all pairs of an expectation."""

    def distance(one, other):
        pairs = [(a, b) for a in one for b in other]
        return 1 - 2 * sum(np.sum(a * b) for a, b in pairs) / sum(a.sum() + b.sum() for a, b in pairs)

    samples, raters = case.samples.astype(int), case.raters.astype(int)
    return 2 * distance(samples, raters) - distance(samples, samples) - distance(raters, raters)


def test_samples(evaluated):
    tasks = evaluated.summary()["tasks"]
    cases = evaluated.cases["id"].values()
    by_iou = [ged(case, lambda a, b: 1 - np.sum(a & b) / np.sum(a | b)) for case in cases]
    by_dice = [ged(case, lambda a, b: 1 - dice(a, b)) for case in cases]
    assert tasks["GED"]["iou"]["ID"] == pytest.approx(np.mean(by_iou))
    assert tasks["GED"]["dice"]["ID"] == tasks["GED"]["ID"] == pytest.approx(np.mean(by_dice))
    assert tasks["GED"]["distance"] == "dice"
    images = pd.read_csv(evaluated.root / "out" / "images.csv").query("set == 'ID'")
    assert images["ged_iou"].tolist() == pytest.approx(by_iou)
    assert images["ged_dice"].tolist() == pytest.approx(by_dice)
    assert tasks["GED"]["num_samples"] == 3
    errors = []
    for case in cases:
        predicted = case.samples.sum(axis=(1, 2, 3)) * VOXEL_ML
        spread = np.abs(predicted[:, None] - predicted).mean() / 2
        observed = case.raters.sum(axis=(1, 2, 3)) * VOXEL_ML
        errors.append(np.mean([np.abs(predicted - volume).mean() - spread for volume in observed]))
    assert tasks["VOLUME"]["ID"]["nodule"] == pytest.approx(np.mean(errors))


def test_spread_of_raters_and_samples(evaluated):
    found = evaluated.summary()["spread"]["ID"]
    cases = evaluated.cases["id"].values()
    expected = {}
    for case in cases:
        raters, volumes = case.raters.astype(bool), case.raters.sum(axis=(1, 2, 3))
        sampled = case.samples.sum(axis=(1, 2, 3))
        low, high = np.quantile(sampled, [0.05, 0.95])
        distances = np.array([[1 - dice(a, b) for b in raters] for a in raters])
        numbers = {
            "rater_dice": np.mean([dice(raters[0], raters[1]), dice(raters[0], raters[2]), dice(raters[1], raters[2])]),
            "rater_ged_dice": distances.mean(),  # 2 E d(y, y') - 0 - E d(y, y')
            "rater_volume_spread": volumes.std(ddof=1) / volumes.mean(),
            "sample_volume_spread": sampled.std(ddof=1) / sampled.mean(),
            "volume_coverage": np.mean((low <= volumes) & (volumes <= high)),
        }
        for name, value in numbers.items():
            expected.setdefault(name, []).append(value)
    assert {name: found[name] for name in expected} == pytest.approx(
        {name: np.mean(values) for name, values in expected.items()}
    )
    assert 0 < found["rater_dice"] < 1
    assert evaluated.summary()["spread"].keys() >= {"ID", "blur"}


def test_ratio_entanglement_and_results_of_a_shift(evaluated):
    found = evaluated.summary()
    cases = evaluated.cases["id"].values()
    means = {measure: np.mean([case.maps[measure].mean() for case in cases]) for measure in ("AU", "EU")}
    assert found["tasks"]["RATIO"]["ID"] == pytest.approx(means["EU"] / means["AU"], rel=1e-5)

    tasks, delta = found["tasks"], found["delta"]
    assert delta["OODD"]["value"] == pytest.approx(metrics.entanglement(tasks["OODD"]["EU"], tasks["OODD"]["AU"]))
    for split in ("ID", "OOD"):
        values = tasks["AMB"][split]
        assert delta["AMB"][split]["value"] == pytest.approx(metrics.entanglement(values["AU"], values["EU"]))
        values = tasks["CAL"][split]
        expected = metrics.entanglement(values["TU"], min(values["AU"], values["EU"]), lower_is_better=True)
        assert delta["CAL"][split]["value"] == delta["CAL"]["dataset"][split]["value"] == pytest.approx(expected)
        values = tasks["CAL"]["per_image"][split]
        expected = metrics.entanglement(values["TU"], min(values["AU"], values["EU"]), lower_is_better=True)
        assert delta["CAL"]["per_image"][split]["value"] == pytest.approx(expected)
        low, high = delta["CAL"][split]["interval"]
        assert -1 <= low < high <= 1

    blur = evaluated.cases["blur"].values()
    expected = np.mean([dice(case.prediction, case.reference) for case in blur])
    assert found["set_results"]["blur"]["reference"]["nodule"]["mean"]["dice"] == pytest.approx(expected)
    assert found["set_results"].keys() == {"blur"}
    assert found["convention"] == "entanglement"
    assert found["left_out"] == {
        f"{task}/scanner": "no annotations were given (-ood_gt)"
        for task in ("AMB", "CAL", "FD", "FILTER", "GED", "VOLUME")
    } | {"DECISIONS": "no -decisions folder was given"}


def test_what_is_left_out_of_a_set_has_its_own_reason(made):
    """The shift has references alone and no samples; before, each reason named all that could be missing."""
    shutil.rmtree(made.root / "blur" / "pred" / "samples")
    options = [*made.shift_options("blur"), "-ood_gt", f"blur={made.root / 'blur' / 'gt'}"]
    assert made.evaluate(*options) == 0
    samples = "the predictions have no samples; predict with --save_samples"
    assert made.summary()["left_out"] == {
        "OODD/threshold": "no -val folder was given",
        "AMB/blur": "no annotations of several raters were given (-ood_gt_raters)",
        "CAL": "no -val folder was given",
        "GED/blur": samples,
        "VOLUME/blur": samples,
        "DECISIONS": "no -decisions folder was given",
    }


def test_values_preset(made_once):
    made_once.calibrate()
    assert made_once.evaluate(*made_once.all_tasks(), "--convention", "values", out="values") == 0
    tasks = made_once.summary("values")["tasks"]
    assert tasks["OODD"]["aggregation"] == "patch"
    assert tasks["CAL"]["ID"] == tasks["CAL"]["per_image"]["ID"]
    cases = made_once.cases["id"].values()
    assert tasks["GED"]["ID"] == tasks["GED"]["pooled_dice"]["ID"] == pytest.approx(np.mean([*map(pooled_ged, cases)]))
    delta = made_once.summary("values")["delta"]["CAL"]
    assert delta["ID"] == delta["per_image"]["ID"] != delta["dataset"]["ID"]


def test_mixture_of_bases_preset(made_once):
    """The errors of all voxels and raters together are torchmetrics', of the foreground probability."""
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.functional.classification")
    assert made_once.evaluate("--convention", "mixture_of_bases", out="mixture") == 0
    summary = made_once.summary("mixture")
    assert summary["num_bins"] == 50
    assert "torchmetrics" in summary["conventions"]["ece"]
    cases = list(made_once.cases["id"].values())
    probability = torch.from_numpy(np.concatenate([np.tile(case.probabilities[1].ravel(), 3) for case in cases]))
    target = torch.from_numpy(np.concatenate([case.raters.ravel() for case in cases]).astype(int))
    for name in ("nodule", "all classes"):
        found = summary["results"]["raters"][name]["dataset"]
        for metric, norm in (("ece", "l2"), ("mce", "max")):
            oracle = float(classification.binary_calibration_error(probability, target, n_bins=50, norm=norm))
            assert found[metric] == pytest.approx(oracle, abs=1e-6)
    entanglement = made_once.summary("mixture")["results"]["raters"]["nodule"]["mean"]
    assert entanglement["dice"] < 1  # a share in the file; tables print percent


def test_curvas_preset(made_once):
    assert made_once.evaluate("--convention", "curvas", out="curvas") == 0
    found = made_once.summary("curvas")["tasks"]["CURVAS"]["ID"]
    errors, agreement, volumes = [], [], []
    for case in made_once.cases["id"].values():
        agreed = (case.raters == case.raters[0]).all(axis=0)
        agreement.append(dice(case.prediction[agreed], case.raters[0][agreed]))
        for rater in case.raters:
            confidence, correct = metrics.predicted_class_confidence(case.probabilities, rater.astype(int))
            bins = metrics.reliability_bins(confidence, correct, num_bins=50)
            errors.append(metrics.expected_calibration_error(bins))
        observed = case.raters.sum(axis=(1, 2, 3)) * VOXEL_ML
        point = case.probabilities[1].sum(dtype=float) * VOXEL_ML
        volumes.append(metrics.crps_gaussian(point, observed.mean(), observed.std()))
    assert found["all classes"]["ece"] == pytest.approx(np.mean(errors))
    assert found["nodule"]["agreement_dice"] == pytest.approx(np.mean(agreement))
    assert found["nodule"]["crps_ml"] == pytest.approx(np.mean(volumes))


def test_samples_that_have_come_apart_from_the_segmentation_are_warned_of(made, write_image, capsys):
    """Also where nobody annotated the images: the samples alone say it."""
    assert made.evaluate(*made.shift_options("blur", "scanner")) == 0
    assert made.summary()["degenerate_samples"] == {}
    assert "warning" not in capsys.readouterr().err
    for name, case, values in (("id", "a", (0, 0, 0)), ("id", "c", (1, 1, 1)), ("scanner", "t", (0, 1, 0))):
        for index, value in enumerate(values):
            path = made.root / name / "pred" / "samples" / f"{case}_{index:03d}.nii.gz"
            write_image(path, np.full_like(made.cases[name][case].prediction, value))
    assert made.evaluate(*made.shift_options("blur", "scanner")) == 0
    found = made.summary()["degenerate_samples"]
    assert found == {"ID": {"a": "empty", "c": "full"}, "scanner": {"t": "empty or full"}}
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert [line.split(":")[1].strip() for line in warnings] == ["ID", "scanner"]
    assert "empty: a; filling the image: c" in warnings[0]
    assert "empty or filling the image: t" in warnings[1]


def empty_predictions(made, write_image, name, cases):
    """Let nothing be predicted of these cases."""
    for case in cases:
        found = made.cases[name][case]
        found.prediction[...] = 0
        write_image(made.root / name / "pred" / f"{case}.nii.gz", found.prediction)


def test_images_without_a_border_are_counted_and_left_out_beside(made, write_image, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # all columns in one table
    made.add("dark", ["p", "q"], seed=8)
    empty_predictions(made, write_image, "id", ["a"])
    empty_predictions(made, write_image, "blur", ["b", "d"])
    empty_predictions(made, write_image, "dark", ["p", "q"])
    options = made.shift_options("blur", "scanner", "dark", annotated=("blur",))
    assert made.evaluate(*options) == 0
    found = made.summary()["tasks"]["OODD"]
    assert found["num_without_border"] == {"ID": 1, "blur": 2, "scanner": 0, "dark": 2}
    without = found["auroc_with_border"]

    def by_rule(name, measure):
        """The score of each case, a sum where there is no border."""
        cases = made.cases[name].values()
        return [border(case, measure) if case.prediction.any() else case.maps[measure].sum() for case in cases]

    def bordered(name, measure):
        return [border(case, measure) for case in made.cases[name].values() if case.prediction.any()]

    assert [len(bordered(name, "EU")) for name in ("id", "blur", "scanner", "dark")] == [3, 1, 2, 0]
    for measure in MEASURES:
        for shift in SHIFTS:
            expected = auroc(by_rule("id", measure), by_rule(shift, measure))
            assert found["shifts"][shift][measure] == pytest.approx(expected)
            expected = auroc(bordered("id", measure), bordered(shift, measure))
            assert without["shifts"][shift][measure] == pytest.approx(expected)
        assert without["shifts"]["dark"][measure] is None
        assert without[measure] == pytest.approx(np.mean([without["shifts"][shift][measure] for shift in SHIFTS]))
    assert without["AU"] != found["AU"]
    images = pd.read_csv(made.root / "out" / "images.csv").set_index(["set", "case"])["border_length"]
    edge = sum(np.count_nonzero(np.diff(made.cases["id"]["b"].prediction.astype(int), axis=axis)) for axis in range(3))
    assert (images["ID", "a"], images["ID", "b"], images["dark", "q"]) == (0, edge, 0)

    failures = made.summary()["tasks"]["FD"]
    assert failures["num_without_border"] == {"ID": 1, "blur": 2}
    cases = [case for case in made.cases["id"].values() if case.prediction.any()]
    risk = np.array([1 - dice(case.prediction, case.reference) for case in cases])
    order = np.argsort([border(case, "AU") for case in cases])
    expected = np.mean(np.cumsum(risk[order]) / np.arange(1, 4))
    assert failures["aurc_with_border"]["ID"]["AU"]["aurc"] == pytest.approx(expected)

    output = capsys.readouterr()
    warning = next(line for line in output.err.splitlines() if line.startswith("warning: images without"))
    assert "1 of 4 of ID, 2 of 3 of blur, 2 of 2 of dark; " in warning
    assert "can decide OODD and FD by themselves" in warning
    rows = table_rows(output.out)
    assert rows["OODD (AUROC ↑)"][0] == f"{found['AU']:.3f}"
    assert rows["OODD with a border (AUROC ↑)"][0] == f"{without['AU']:.3f}"
    assert rows["OODD blur (AUROC ↑)"][1] == f"{found['shifts']['blur']['EU']:.3f}"
    assert rows["OODD blur with a border (AUROC ↑)"][1] == f"{without['shifts']['blur']['EU']:.3f}"
    assert rows["OODD dark with a border (AUROC ↑)"] == ["–", "–", "–", "", "", ""]
    assert rows["FD ID with a border (AURC ↓)"][0] == f"{expected:.3f}"


def table_rows(text):
    """Cells of a table on the terminal, by the first, which may be broken over lines."""
    rows, name, cells = {}, "", []
    for line in (line for line in text.splitlines() if line.startswith("│")):
        first, *others = (cell.strip() for cell in line.split("│")[1:-1])
        name, cells = (f"{name} {first}".strip(), cells) if not any(others) and name else (first, others)
        rows[name] = cells
    return rows


def test_images_without_a_border_decide_nothing_where_scores_are_not_divided_by_it(made, write_image, capsys):
    empty_predictions(made, write_image, "blur", ["b", "d"])
    assert made.evaluate(*made.shift_options("blur"), "--convention", "values") == 0
    output = capsys.readouterr()
    assert made.summary()["tasks"]["OODD"]["num_without_border"] == {"ID": 0, "blur": 2}
    assert "warning" not in output.err
    assert "with a border" not in output.out


def test_a_record_of_before_is_computed_again(made):
    """One that has no length of a border would count as an image without."""
    assert made.evaluate(*made.shift_options("blur")) == 0
    path = made.root / "out" / "records" / "ID" / "a.json"
    record = json.loads(path.read_text())
    del record["image"]["border_length"]
    path.write_text(json.dumps(record | {"fingerprint": "of the format before"}))
    assert made.evaluate(*made.shift_options("blur"), "--continue_evaluation") == 0
    assert made.summary()["tasks"]["OODD"]["num_without_border"] == {"ID": 0, "blur": 0}
