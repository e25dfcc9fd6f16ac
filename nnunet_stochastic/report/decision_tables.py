"""What an evaluation found of decisions: tables for the terminal, and decisions.csv, a row per case and structure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.model import STAND_IN_FOOTNOTE, stand_in_mark
from nnunet_stochastic.evaluation.tasks import ARROWS, DECISIONS
from nnunet_stochastic.report.terminal import with_interval

__all__ = ["BASELINE_TITLES", "decision_rows", "decision_tables"]

#: What tables call the scores that the predicted Dice is compared with.
BASELINE_TITLES = {
    "pairwise_dice": "pairwise Dice alone",
    "mean_entropy": "mean entropy",
    "border_EU": "EU on the border",
    "volume": "volume alone",
}
_ABSENT = "–"


def decision_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Tables of what was judged: coverage, spread, risk of masks, predicted Dice, lesions; none without decisions.

    Parameters
    ----------
    summary
        Content of summary.json.
    """
    entry = summary["tasks"].get(DECISIONS.name)
    if entry is None:
        return []
    judged = list(_structures(entry))
    mark = stand_in_mark(summary["model"])
    tables = [_coverage(entry, judged), _spread(judged), _risk(entry, judged), _dice(judged, mark), _lesions(judged)]
    return [table for table in tables if table.row_count]


def decision_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of decisions.csv by column, all with the same columns; infinite ends of intervals are inf.

    Parameters
    ----------
    summary
        Content of summary.json.
    """
    entry = summary["tasks"].get(DECISIONS.name)
    if entry is None:
        return []
    levels, alphas = ([f"{number:g}" for number in entry[name]] for name in ("levels", "alphas"))
    rows = []
    for set_name, judgement in _sets(entry):
        for structure, judged in judgement["structures"].items():
            for case in judged["cases"]:
                place = {"set": set_name, "case": case["case"], "patient": case["patient"], "structure": structure}
                rows.append(place | _columns(case, levels, alphas))
    return rows


def _columns(case: Mapping[str, Any], levels: Sequence[str], alphas: Sequence[str]) -> dict[str, Any]:
    known = [volume for volume in case["reference_ml"] if volume is not None]
    columns = {name: case[name] for name in ("segmented", "volume_ml", "expected_volume_ml", "sample_sd_ml")}
    columns["num_annotations"] = len(case["reference_ml"])
    columns["reference_mean_ml"] = sum(known) / len(known) if known else None
    columns |= {"reference_min_ml": min(known, default=None), "reference_max_ml": max(known, default=None)}
    for level in levels:
        percent, ends = f"{100 * float(level):g}", case["intervals_ml"].get(level)
        columns[f"volume_from_ml_{percent}"] = None if ends is None else ends[0]
        columns[f"volume_to_ml_{percent}"] = None if ends is None else "inf" if ends[1] is None else ends[1]
        columns[f"share_inside_{percent}"] = case["share_inside"].get(level)
    columns |= {"dice": case["dice"], "predicted_dice": case["predicted_dice"]}
    columns |= {f"dice_at_least_{100 * float(level):g}": case["dice_at_least"].get(level) for level in levels}
    columns |= {f"score_{name}": case["baselines"].get(name) for name in BASELINE_TITLES}
    for alpha in alphas:
        columns |= {f"{which}_loss_{alpha}": case[f"{which}_loss"].get(alpha) for which in ("outer", "inner")}
    return columns


def _sets(entry: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if entry[ID] is not None:
        yield ID, entry[ID]
    yield from entry["shifts"].items()


def _structures(entry: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Judgements by what a row is called: the structure, behind it the shift."""
    for set_name, judgement in _sets(entry):
        for structure, judged in judgement["structures"].items():
            yield escape(structure if set_name == ID else f"{structure}, {set_name}"), judged


def _coverage(entry: Mapping[str, Any], judged: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    levels = [f"{level:g}" for level in entry["levels"]]
    table = _table(
        "Coverage",
        "share that was covered, mean over patients, with its 95 % binomial interval; below: median width of volume "
        "intervals, with its bootstrap interval. "
        f"Fitted to {entry['num_validation_patients']} patients"
        + ("" if entry["unit"] == "patients" else "; here each case counts as one, --groups says otherwise"),
        "structure",
        "patients",
        *(f"{100 * float(level):g} %" for level in levels),
    )
    for name, found in judged:
        raters = (found["raters"] or {}).get("coverage")
        bounds = (found["dice"] or {}).get("lower_bound")
        parts = {"volume": found["volume"], "several raters' volumes": raters, "lower bound of the Dice": bounds}
        for what, by_level in parts.items():
            if by_level:
                patients = str(by_level[levels[0]]["num_patients"])
                table.add_row(f"{name}, {what}", patients, *(_covered(by_level[level]) for level in levels))
    return table


def _covered(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    text = with_interval(f"{found['coverage']:.3f}", (low, high), "{:.2f}")
    if "share_all_inside" in found:
        return f"{text}\nall in {100 * found['share_all_inside']:.0f} % of cases"
    if "median_width_ml" not in found:
        return text
    finite = "" if found["median_width_ml"] is None else _number(found, "median_width_ml", "{:.3g} ml", "{:.3g}")
    infinite = f"infinite in {100 * found['share_infinite']:.0f} %" if found["share_infinite"] else ""
    return "\n".join(filter(None, (text, finite, infinite)))


def _spread(judged: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    table = _table(
        "Spread of volumes",
        "of whole samples and of several raters, roots of mean variances over cases; 1 if they differ alike; below: "
        "95 % bootstrap interval",
        "structure",
        "cases",
        "samples (ml)",
        "raters (ml)",
        "samples / raters",
    )
    for name, found in judged:
        if (raters := found["raters"]) is not None:
            numbers = (_number(raters, key, "{:.3g}") for key in ("sampled_sd_ml", "raters_sd_ml", "ratio"))
            table.add_row(name, str(raters["num_cases"]), *numbers)
    return table


def _risk(entry: Mapping[str, Any], judged: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    alphas = [f"{alpha:g}" for alpha in entry["alphas"]]
    table = _table(
        "Risk of masks",
        "mean over patients and its standard error; it is to be at most α, on average",
        "structure",
        "patients",
        *(f"α = {alpha}" for alpha in alphas),
    )
    for name, found in judged:
        for which in ("outer", "inner") if found["masks"] else ():
            risks = [found["masks"][alpha][which] for alpha in alphas]
            cells = (
                f"{_number(risk, 'risk')} ± {_number(risk, 'standard_error')}" if risk["num_patients"] else _ABSENT
                for risk in risks
            )
            table.add_row(f"{name}, {which}", str(risks[0]["num_patients"]), *cells)
    return table


def _dice(judged: Sequence[tuple[str, Mapping[str, Any]]], mark: str) -> Table:
    table = _table(
        "Predicted Dice",
        "risk of AURC: 1 - Dice; a score alone orders the cases, and an isotonic function of it predicts the Dice; "
        "below: 95 % bootstrap interval" + (f"; {STAND_IN_FOOTNOTE}" if mark else ""),
        "structure",
        "cases",
        f"mean error{ARROWS[-1]}",
        f"rank correlation{ARROWS[1]}",
        f"AURC{ARROWS[-1]}",
    )
    for name, found in judged:
        if (dice := found["dice"]) is not None:
            titles = {key: title + (mark if key == "border_EU" else "") for key, title in BASELINE_TITLES.items()}
            scores = {"predicted Dice": dice, **{titles[key]: each for key, each in dice["baselines"].items()}}
            for title, score in scores.items():
                numbers = (_number(score, key) for key in ("mae", "rank_correlation", "aurc"))
                table.add_row(f"{name}, {title}", str(dice["num_cases"]), *numbers)
    return table


def _lesions(judged: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    allowed = list(next((found["lesions"]["sensitivity_at"] for _, found in judged if found["lesions"]), {}))
    table = _table(
        "Lesions",
        "sensitivity with at most so many false positives per case, by the probability that a lesion exists; ECE of "
        "it; segmentation: its lesions alone, with their false positives per case; below: 95 % bootstrap interval",
        "structure",
        "lesions of annotations",
        "segmentation",
        *(f"{number} per case{ARROWS[1]}" for number in allowed),
        f"ECE{ARROWS[-1]}",
    )
    for name, found in judged:
        if (lesions := found["lesions"]) is not None:
            intervals = lesions.get("intervals") or {}
            at, alone = (
                {**lesions[key], "intervals": intervals.get(key, {})} for key in ("sensitivity_at", "segmentation")
            )
            numbers = [_number(at, number) for number in allowed]
            point = f"{_number(alone, 'sensitivity')}\nat {_number(alone, 'false_per_case', '{:.2f}')}"
            of_existence = _number(lesions, "existence_calibration_error")
            table.add_row(name, str(lesions["num_reference_lesions"]), point, *numbers, of_existence)
    return table


def _table(title: str, caption: str, *columns: str) -> Table:
    table = Table(title=title, caption=caption)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _number(found: Mapping[str, Any], name: str, form: str = "{:.3f}", form_of_ends: str = "") -> str:
    """A number of a part, and below its interval where it has one."""
    if found[name] is None:
        return _ABSENT
    ends = (found.get("intervals") or {}).get(name)
    return with_interval(form.format(found[name]), ends, form_of_ends or form)
