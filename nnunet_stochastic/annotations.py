"""Annotations of training cases: one label, or the masks of several raters."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["ANNOTATIONS", "ANNOTATION_CHOICES", "ANNOTATION_NAMES", "AnnotationChoice", "Annotations"]

#: ``labels``: labelsTr. ``raters``: the masks of a dataset's raters, one at random each time a case is loaded.
Annotations = Literal["labels", "raters"]
ANNOTATIONS: tuple[Annotations, ...] = get_args(Annotations)
#: What they are called in sentences.
ANNOTATION_NAMES: dict[str, str] = {"labels": "labelsTr", "raters": "the raters' masks"}

#: What is fitted to a trained network is fitted against. ``trained``: the annotations that it was trained on.
AnnotationChoice = Literal["trained", "labels", "raters"]
ANNOTATION_CHOICES: tuple[AnnotationChoice, ...] = get_args(AnnotationChoice)
