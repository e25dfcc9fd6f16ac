import json

import pytest

from nnunet_stochastic.inference.record import Record

SETTINGS = {"seed": 0, "num_samples": 30, "maps": ["total"], "versions": {"torch": "2"}}


def read(folder, name="uncertainty.json"):
    return json.loads((folder / name).read_text())


def test_cases_are_added_and_sorted(tmp_path):
    record = Record(tmp_path, SETTINGS)
    record.add("b", {"mean_total": 0.5})
    record.add("a", {"mean_total": 0.25})
    record.finish()
    assert read(tmp_path) == {"settings": SETTINGS, "cases": {"a": {"mean_total": 0.25}, "b": {"mean_total": 0.5}}}
    assert list(read(tmp_path)["cases"]) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["uncertainty.json"]


def test_resuming_keeps_cases_of_the_same_settings(tmp_path):
    Record(tmp_path, SETTINGS).add("a", {})
    Record(tmp_path, {**SETTINGS, "versions": {}}, resume=True).add("b", {})
    assert list(read(tmp_path)["cases"]) == ["a", "b"]
    with pytest.raises(ValueError, match="seed was 0 and is now 1"):
        Record(tmp_path, {**SETTINGS, "seed": 1}, resume=True)
    assert list(read(tmp_path)["cases"]) == ["a", "b"]
    Record(tmp_path, {**SETTINGS, "seed": 1})
    assert read(tmp_path)["cases"] == {}


def test_parts_are_put_together(tmp_path):
    parts = [Record(tmp_path, SETTINGS, num_parts=2, part_id=part) for part in range(2)]
    parts[1].add("b", {})
    parts[1].finish()
    assert list(read(tmp_path)["cases"]) == ["b"]
    parts[0].add("a", {})
    parts[0].finish()
    assert list(read(tmp_path)["cases"]) == ["a", "b"]
    assert list(read(tmp_path, "uncertainty_part0of2.json")["cases"]) == ["a"]


def test_what_the_parts_have_not_come_to_is_told(tmp_path):
    parts = [
        Record(tmp_path, SETTINGS, num_parts=2, part_id=part, other_cases={"ac"[part], "bd"[part]}) for part in (0, 1)
    ]
    parts[0].add("a", {})
    parts[1].add("d", {})
    parts[1].finish()
    assert read(tmp_path)["other_cases"] == ["b", "c"]
    parts[0].add("b", {})
    parts[1].add("c", {})
    parts[0].finish()
    assert "other_cases" not in read(tmp_path)


def test_parts_of_different_settings(tmp_path):
    Record(tmp_path, SETTINGS, num_parts=2, part_id=0).add("a", {})
    other = Record(tmp_path, {**SETTINGS, "num_samples": 5}, num_parts=2, part_id=1)
    with pytest.raises(ValueError, match="num_samples was 30 and is now 5"):
        other.finish()
