"""The page of new cases without references: which to open first and why, what their structures and lesions are, and
what is missing to say more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nnunet_stochastic.evaluation.model import STAND_IN_FOOTNOTE, model_title, stand_in_mark
from nnunet_stochastic.report.page.browser import CaseBrowser
from nnunet_stochastic.report.page.cases import PageCase
from nnunet_stochastic.report.page.review_folder import Review
from nnunet_stochastic.report.page.review_list import (
    columns_of,
    lesion_columns,
    level_of,
    order_in_words,
    structure_columns,
)
from nnunet_stochastic.report.page.template import fill_template
from nnunet_stochastic.report.page.volumes import CaseVolumes

__all__ = ["ReviewContent", "missing", "render_review"]


@dataclass(frozen=True)
class ReviewContent:
    """What goes onto a page of a folder to review; of the cases as in ``CaseBrowser``."""

    title: str
    review: Review
    cases: Sequence[PageCase]
    thumbnails: Sequence[str | None]
    notes: Sequence[str | None]
    volumes: dict[int, CaseVolumes]


def render_review(content: ReviewContent) -> Iterator[str]:
    """The page in pieces, to be written one after the other."""
    review, decisions = content.review, content.review.decisions
    columns = columns_of(review)
    first = next((column.first for column in columns if column.field == review.sorted_by), "asc")
    browser = CaseBrowser(
        columns,
        structure_columns(review),
        lesion_columns(review),
        None if review.sorted_by == "case" else (review.sorted_by, first),
        content.cases,
        content.thumbnails,
        content.notes,
        content.volumes,
    )
    model = review.model
    return fill_template(
        "review.html.j2",
        title=content.title,
        browser=browser,
        folder=str(review.folder),
        predictions=str(review.predictions),
        model=model_title(model["aleatoric"], model["epistemic"]) if model.get("aleatoric") else "",
        order=order_in_words(review),
        level=f"{100 * level_of(review):g}",
        alpha="" if not review.masks else f"{100 * (review.alpha or 0):g}",
        several=len(review.names) > 1,
        decisions=decisions,
        remarks=[] if decisions is None else decisions.remarks(),
        has_lesions=review.lesions is not None,
        missing=missing(review, content.cases),
        footnote=f"{STAND_IN_FOOTNOTE}." if stand_in_mark(model) else "",
    )


def missing(review: Review, cases: Sequence[PageCase]) -> list[tuple[str, str]]:
    """What the page cannot show of any case, and how to get it."""
    found: list[tuple[str, str]] = []
    sources = [case.source for case in cases if not isinstance(case.source, str)]
    if not sources:
        reasons = dict.fromkeys(case.source for case in cases if isinstance(case.source, str))
        how = "put the predictions back, or run nnunet_stochastic_apply_calibration on them where they are now"
        return [("images, segmentations, maps, samples and masks", f"{'; '.join(reasons)}; {how}")]
    if review.decisions is None:
        found.append(
            (
                "predicted Dice, intervals of the volume, reasons, share of the expected error, inner and outer masks",
                "fit a calibration once to validation predictions with references: "
                "nnunet_stochastic_determine_calibration -val VALIDATION -gt LABELS; then "
                f"nnunet_stochastic_apply_calibration -i {review.predictions} -calibration VALIDATION/calibration.json "
                "-o DECIDED --method decisions, and make this page of DECIDED",
            )
        )
    elif not review.masks:
        found.append(("inner and outer masks", "predict with --save_probabilities, and apply the calibration again"))
    if not review.structures:
        found.append(("volumes and agreement of samples", "predict with nnunet_stochastic_predict of this version"))
    if not any((review.predictions / "total").glob("*")):
        found.append(("maps of uncertainty", "predict with nnunet_stochastic_predict, whose --maps has total"))
    if not any((review.predictions / "samples").glob("*")):
        found.append(("whole samples to flip through", "predict with --save_samples, such as 16"))
    if review.lesions is None:
        found.append(("lesions", "predict with --lesions LABEL …, the structures whose connected parts are lesions"))
    if not any(source.image_path for source in sources):
        found.append(
            ("images", "predict with nnunet_stochastic_predict: its uncertainty.json says where the images are")
        )
    elif gone := sum(source.image_path is None or not source.image_path.is_file() for source in sources):
        found.append(
            (
                f"images of {gone} of {len(sources)} cases",
                "they are no longer where the prediction read them: put them back, or name their folder with --images",
            )
        )
    return found
