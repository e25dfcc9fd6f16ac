import csv

import numpy as np
import pytest

from nnunet_stochastic.inference.volumes import structure_volumes, summarize_volumes, write_volume_table


def test_volumes_of_classes_and_regions():
    segmentation = np.array([[0, 1, 1], [2, 2, 2]])
    classes = {"background": 0, "kidney": 1, "tumour": 2, "cyst": 3, "ignore": 4}
    assert structure_volumes(segmentation, classes, 0.5) == {"kidney": 1.0, "tumour": 1.5, "cyst": 0.0}
    regions = {"background": 0, "organ": [1, 2], "tumour": 2}
    assert structure_volumes(segmentation, regions, 0.5) == {"organ": 2.5, "tumour": 1.5}


def test_spread_over_samples():
    summary = summarize_volumes([{"kidney": value} for value in (1.0, 2.0, 3.0, 4.0, 10.0)])["kidney"]
    assert summary["mean_ml"] == 4.0
    assert summary["sd_ml"] == pytest.approx(12.5**0.5)
    assert (summary["p5_ml"], summary["p95_ml"]) == (pytest.approx(1.2), pytest.approx(8.8))
    assert summary["samples_ml"] == [1.0, 2.0, 3.0, 4.0, 10.0]
    assert summarize_volumes([{"kidney": 1.0}])["kidney"]["sd_ml"] is None


def test_table(tmp_path):
    cases = {
        "a": {"volume_ml": {"kidney": 2.5}, "sample_volumes": summarize_volumes([{"kidney": 2.0}, {"kidney": 4.0}])},
        "b": {"volume_ml": {"kidney": 1.0}},
        "c": {"mean_total": 0.1},
    }
    write_volume_table(tmp_path / "volumes.csv", cases)
    with (tmp_path / "volumes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a", "b"]
    first = {key: float(value) for key, value in rows[0].items() if key.endswith("_ml")}
    expected = {"volume_ml": 2.5, "mean_ml": 3.0, "sd_ml": 2**0.5, "p5_ml": 2.1, "p95_ml": 3.9}
    assert first == pytest.approx(expected)
    assert rows[0]["num_samples"] == "2"
    assert rows[1]["mean_ml"] == ""
