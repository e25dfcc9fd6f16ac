"""Tables of this comparison: scores, ranks, how they agree with the paper's, and what becomes of its claims.

    python table.py OUT PATIENTS

OUT holds folders MODEL-METHOD-SEED/ID, each with its ``evaluation``, as ``run.sh`` writes them; PATIENTS is the table
of cases and patients that ``--groups`` takes. Ranks are those of ``nnunet_stochastic_compare``: per task and split,
averaged over splits, then tasks, then seeds; an ensemble of all seeds is ranked among the models of each. What has not
been predicted for every seed is in no table, and claims are of the models that have all members. Intervals: 95 %, from
1,000 draws of patients, the same of all models and sets of images, and of seeds, both with replacement.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import PRESETS
from nnunet_stochastic.evaluation import ranking
from nnunet_stochastic.evaluation.bootstrap import case_weights
from nnunet_stochastic.evaluation.case_sets import ID, CaseSet
from nnunet_stochastic.evaluation.results import collect_results
from nnunet_stochastic.evaluation.right_and_wrong import right_and_wrong
from nnunet_stochastic.evaluation.tasks import RANKED, Resampled

DRAWS = 1000
SEEDS = ("0", "1", "2")
MODELS = {"Softmax": "Softmax", "SSN": "SSN", "ProbUNet": "Prob. U-Net", "Diffusion": "Diffusion"}
METHODS = {
    "none": "none",
    "dropout": "dropout",
    "swag_diag": "SWAG-D",
    "swag": "SWAG",
    "swag_ent": "SWAG, a tenth of the rate",
    "ensemble": "ensemble of three",
}
#: Ranks of performance and of Δ on LIDC: Christensen et al., Table 2.
PAPER = {
    "none": {"SSN": (14.3, 11.2), "ProbUNet": (17.3, 10.7), "Diffusion": (15.0, 8.3)},
    "dropout": {"Softmax": (9.8, 12.0), "SSN": (5.8, 11.5), "ProbUNet": (12.7, 12.2), "Diffusion": (8.3, 9.0)},
    "swag_diag": {"Softmax": (9.2, 12.0), "SSN": (9.3, 11.8), "ProbUNet": (17.2, 12.8), "Diffusion": (8.2, 11.7)},
    "swag": {"Softmax": (7.8, 10.8), "SSN": (9.7, 9.8), "ProbUNet": (15.8, 11.2), "Diffusion": (7.0, 8.3)},
    "ensemble": {"Softmax": (3.0, 7.7), "SSN": (6.3, 6.8), "ProbUNet": (6.7, 5.7), "Diffusion": (6.5, 6.5)},
}
CRITERIA = {ranking.PERFORMANCE: "performance", ranking.DELTA: "Δ"}
ACE = {"dataset": "of all images together, as the paper's", "per_image": "the mean over images"}

Model = tuple[str, str]


class Evaluated:
    """Performances and Δ of one evaluation: of the data, which are draw 0, and of the draws of patients."""

    def __init__(self, folder: Path, patients: Mapping[str, str]) -> None:
        self.summary = json.loads((folder / "ID" / "evaluation" / "summary.json").read_text())
        records = folder / "ID" / "evaluation" / "records"
        sets = {}
        for place in sorted(records.iterdir(), key=lambda place: place.name != ID):
            found = [json.loads(path.read_text()) for path in sorted(place.glob("*.json"))]
            sets[place.name] = collect_results(CaseSet(place.name, ()), found)
        weights = {
            name: np.concatenate([np.ones_like(drawn[:1]), drawn])
            for name, drawn in case_weights(
                {name: found.cases for name, found in sets.items()}, DRAWS, patients=patients, seed=0
            ).items()
        }
        self._drawn = Resampled(sets, weights, PRESETS["entanglement"])

    def values(self, ace: str) -> dict[tuple[str, str, str], np.ndarray]:
        """(criterion, task, split) -> (1 + DRAWS,), larger is better."""
        shifts = [name for name in self._drawn.sets if name != ID]
        found = {}
        for task in RANKED:
            assert task.replicates is not None
            for split, names in {ID: [ID], "OOD": shifts}.items() if task.splits else {"OOD": shifts}.items():
                sets = [task.replicates(self._drawn, name) for name in names]
                if task.variants:
                    sets = [of_set[ace] for of_set in sets]
                right, wrong = right_and_wrong(task, sets)
                found[ranking.PERFORMANCE, task.name, split] = task.direction * right
                found[ranking.DELTA, task.name, split] = metrics.entanglement(
                    right, wrong, lower_is_better=task.direction < 0
                )
        return found

    def scores(self) -> dict[str, float]:
        """The columns of the first table."""
        tasks, results, delta = self.summary["tasks"], self.summary["results"], self.summary["delta"]
        raters = results["raters"]["all classes"]
        return {
            "Dice": results["reference"]["all classes"]["mean"]["dice"],
            "NLL": raters["mean"]["nll"],
            "ECE": raters["dataset"]["ece"],
            "GED": tasks["GED"]["iou"]["ID"],
            "EU/AU": tasks["RATIO"]["ID"],
            "EU AUROC": tasks["OODD"]["EU"],
            "AU NCC": tasks["AMB"]["ID"]["AU"],
            "TU ACE": tasks["CAL"]["dataset"]["ID"]["TU"],
            "TU ACE, images": tasks["CAL"]["per_image"]["ID"]["TU"],
            "Δ OODD": delta["OODD"]["value"],
            "Δ AMB": delta["AMB"]["ID"]["value"],
            "Δ CAL": delta["CAL"]["dataset"]["ID"]["value"],
        }


DIGITS = {"Dice": 3, "NLL": 4, "ECE": 4, "GED": 3, "EU/AU": 3, "EU AUROC": 2, "AU NCC": 3, "TU ACE": 3} | {
    **{"TU ACE, images": 3, "Δ OODD": 2, "Δ AMB": 2, "Δ CAL": 2}
}


def mean_ranks(
    values: Mapping[tuple[Model, str], Mapping[tuple[str, str, str], np.ndarray]], models: Sequence[Model]
) -> dict[tuple[str, str], np.ndarray]:
    """(criterion, task or "overall") -> ranks among the models, 1 is best, (seeds, models, 1 + DRAWS)."""
    rows = [
        pd.DataFrame({"dataset": np.arange(len(found)), "value": found}).assign(
            seed=seed, aleatoric=model[0], epistemic=model[1], task=task, split=split, direction=1, quantity=criterion
        )
        for seed in SEEDS
        for model in models
        for (criterion, task, split), found in values[model, SEEDS[0] if model[1] == "ensemble" else seed].items()
    ]
    # Each draw is ranked as a data set of its own.
    table = ranking.mean_ranks(ranking.add_ranks(pd.concat(rows, ignore_index=True)))
    order = pd.MultiIndex.from_tuples([(seed, *model) for seed in SEEDS for model in models])
    ranks = {}
    for key, found in table.groupby(["criterion", "task"]):
        by_draw = found.pivot(index=["seed", *ranking.MODEL], columns="dataset", values="rank").loc[order]
        ranks[key] = by_draw.to_numpy().reshape(len(SEEDS), len(models), -1)
    return ranks


def over_seeds(ranks: np.ndarray) -> np.ndarray:
    """Means over the seeds, those of the draws over seeds that are drawn, too: (models, 1 + DRAWS)."""
    generator = np.random.default_rng(1)
    counts = generator.multinomial(len(ranks), np.full(len(ranks), 1 / len(ranks)), size=DRAWS)
    counts = np.concatenate([np.ones((1, len(ranks)), dtype=int), counts])
    return np.einsum("smb,bs->mb", ranks, counts) / len(ranks)


def shown(draws: np.ndarray, digits: int, sign: str = "") -> str:
    """A number and its interval, of (1 + DRAWS,)."""
    low, high = np.nanquantile(draws[1:], (0.025, 0.975))
    return f"{draws[0]:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


def verdict(difference: np.ndarray) -> str:
    """Of a claim that a difference is below 0."""
    low, high = np.nanquantile(difference[1:], (0.025, 0.975))
    return "holds" if high < 0 else "does not hold" if low > 0 else "not decided"


def line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("patients", type=Path, help="CSV file with the columns case and patient")
    arguments = parser.parse_args()
    patients = pd.read_csv(arguments.patients, dtype=str).set_index("case")["patient"].to_dict()
    models = [
        (model, method)
        for method in METHODS
        for model in MODELS
        if all(
            (arguments.out / f"{model}-{method}-{seed}/ID/evaluation/summary.json").is_file()
            for seed in (SEEDS[:1] if method == "ensemble" else SEEDS)
        )
    ]
    evaluated = {
        (model, seed): Evaluated(arguments.out / "-".join((*model, seed)), patients)
        for model in models
        for seed in (SEEDS[:1] if model[1] == "ensemble" else SEEDS)
    }
    print(line("model", "members", *DIGITS))
    for model, method in sorted(models, key=lambda found: list(MODELS).index(found[0])):
        rows = pd.DataFrame([found.scores() for (of, _), found in evaluated.items() if of == (model, method)])
        cells = [f"{rows[name].mean():.{digits}f}" for name, digits in DIGITS.items()]
        print(line(MODELS[model], METHODS[method], *cells))
    for ace, meaning in ACE.items():
        values = {key: found.values(ace) for key, found in evaluated.items()}
        for left_out, which in (("swag_ent", "snapshots at the training's rate"), ("swag", "at a tenth of it")):
            ranked = [model for model in models if model[1] != left_out]
            ranks = {key: over_seeds(found) for key, found in mean_ranks(values, ranked).items()}
            print(f"\nranks, 1 to {len(ranked)}; ACE: {meaning}; SWAG: {which}; performance, then Δ")
            print(line("members", *MODELS.values()))
            for method in METHODS:
                cells = []
                for model in MODELS:
                    if (model, method) not in ranked:
                        cells.append("–")
                        continue
                    place = ranked.index((model, method))
                    cells.append(" / ".join(shown(ranks[criterion, "overall"][place], 1) for criterion in CRITERIA))
                if method != left_out:
                    print(line(METHODS[method], *cells))
            print_agreement(ranks, ranked)
            if left_out == "swag_ent":
                print_claims(ranks, ranked)
    print_collapse(evaluated, models)


def print_agreement(ranks: Mapping[tuple[str, str], np.ndarray], ranked: Sequence[Model]) -> None:
    """Kendall's τ-b with the ranks of the paper."""
    for number, (criterion, name) in enumerate(CRITERIA.items()):
        papers = [PAPER["swag" if method == "swag_ent" else method][model][number] for model, method in ranked]
        found = ranks[criterion, "overall"]
        taus = np.array([kendalltau(papers, found[:, draw]).statistic for draw in range(1 + DRAWS)])
        chance = kendalltau(papers, found[:, 0]).pvalue
        print(f"τ with the paper's ranks of {name}: {shown(taus, 2)}, p = {chance:.2f}")


def print_claims(ranks: Mapping[tuple[str, str], np.ndarray], ranked: Sequence[Model]) -> None:
    """Differences of mean ranks that the paper says are below 0."""

    single = ("dropout", "swag", "swag_diag")
    members = (*single, "ensemble")
    complete = [model for model in MODELS if all((model, method) in ranked for method in members)]

    def mean(key: tuple[str, str], methods: Sequence[str], of: Sequence[str] = ()) -> np.ndarray:
        places = [
            place
            for place, (model, method) in enumerate(ranked)
            if model in complete and method in methods and (not of or model in of)
        ]
        return ranks[key][places].mean(axis=0)

    claims = {
        "performance: ensembles before other members": (
            (ranking.PERFORMANCE, "overall"),
            {"methods": ["ensemble"]},
            single,
        ),
        "Δ: ensembles before other members": ((ranking.DELTA, "overall"), {"methods": ["ensemble"]}, single),
        "performance: dropout before SWAG and SWAG-D": (
            (ranking.PERFORMANCE, "overall"),
            {"methods": ["dropout"]},
            ("swag", "swag_diag"),
        ),
        "OODD, performance: ensembles before other members": (
            (ranking.PERFORMANCE, "OODD"),
            {"methods": ["ensemble"]},
            single,
        ),
        "OODD, Δ: ensembles before other members": ((ranking.DELTA, "OODD"), {"methods": ["ensemble"]}, single),
    }
    print(line("claim", "ranks apart", ""))
    for name, (key, chosen, others) in claims.items():
        difference = mean(key, **chosen) - mean(key, others)
        print(line(name, shown(difference, 1, "+"), verdict(difference)))
    for name, key, better in (
        ("AMB, Δ: softmax and SSN before the others", (ranking.DELTA, "AMB"), ("Softmax", "SSN")),
        ("CAL, performance: softmax and SSN before the others", (ranking.PERFORMANCE, "CAL"), ("Softmax", "SSN")),
        ("CAL, Δ: Prob. U-Net before the others", (ranking.DELTA, "CAL"), ("ProbUNet",)),
    ):
        others = [model for model in complete if model not in better]
        difference = mean(key, members, better) - mean(key, members, others)
        print(line(name, shown(difference, 1, "+"), verdict(difference)))
    for criterion, name in CRITERIA.items():
        place = ranked.index(("Softmax", "ensemble"))
        first = (np.argmin(ranks[criterion, "overall"], axis=0)[1:] == place).mean()
        print(f"Softmax, ensemble: the first by {name} in {first:.0%} of the draws")


def print_collapse(evaluated: Mapping[tuple[Model, str], Evaluated], models: Sequence[Model]) -> None:
    """EU/AU of images in and out of distribution, from the lowest to the highest seed."""
    print("\nEU/AU, ID and OOD, seeds from to")
    for model in models:
        ratios = [found.summary["tasks"]["RATIO"] for (of, _), found in evaluated.items() if of == model]
        cells = []
        for split in (ID, "OOD"):
            found = [ratio[split] for ratio in ratios]
            cells.append(f"{np.mean(found):.3f} ({min(found):.3f}-{max(found):.3f})")
        print(line(MODELS[model[0]], METHODS[model[1]], *cells))


if __name__ == "__main__":
    main()
