"""The list of cases and the viewer as data of the page: rows, columns, thumbnails, structures, lesions, and volumes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_stochastic.report.page.cases import PageCase
from nnunet_stochastic.report.page.columns import ListColumn
from nnunet_stochastic.report.page.embedding import embed_json
from nnunet_stochastic.report.page.volumes import CaseVolumes

__all__ = ["CaseBrowser", "page_size"]


@dataclass(frozen=True)
class CaseBrowser:
    """The list and what belongs to it.

    Attributes
    ----------
    columns, structure_columns, lesion_columns
        Columns of the list, and of the structures and lesions of a case.
    sorted_by
        Field and order ("asc" or "desc") of the first order; ``None``: that of the cases.
    cases
        Rows of the list, in the order in which they are first shown.
    thumbnails
        Data URI of each case, or ``None``.
    notes
        Notes on what is missing of each case, or ``None``.
    volumes
        Volumes of the cases that the viewer can show, under the case's index.
    """

    columns: Sequence[ListColumn]
    structure_columns: Sequence[ListColumn]
    lesion_columns: Sequence[ListColumn]
    sorted_by: tuple[str, str] | None
    cases: Sequence[PageCase]
    thumbnails: Sequence[str | None]
    notes: Sequence[str | None]
    volumes: Mapping[int, CaseVolumes]

    def data(self) -> dict[str, Any]:
        """JSON of the page's data elements, by their names."""
        rows = [
            {"id": index, **case.row, **({} if note is None else {"note": note})}
            for index, (case, note) in enumerate(zip(self.cases, self.notes, strict=True))
        ]
        listed = {
            "columns": [column.as_json() for column in self.columns],
            "sort": self.sorted_by,
            "rows": rows,
        }
        details = {
            "structureColumns": [column.as_json() for column in self.structure_columns],
            "lesionColumns": [column.as_json() for column in self.lesion_columns],
            "structures": [_compact(case.details.structures, self.structure_columns) for case in self.cases],
            "lesions": [
                [
                    [row["name"], *values]
                    for row, values in zip(found, _compact(found, self.lesion_columns), strict=True)
                ]
                for found in (case.details.lesions for case in self.cases)
            ],
        }
        described = {
            index: {
                **volumes.description(),
                **{
                    kind: [layer.description() | {"element": _element(layer.nifti)} for layer in layers]
                    for kind, layers in (("layers", volumes.layers), ("masks", volumes.masks))
                },
                "lesions_mm": [volumes.place_mm(centre) for centre in self.cases[index].details.centres_mm],
            }
            for index, volumes in self.volumes.items()
        }
        return {
            "rows": embed_json(listed),
            "details": embed_json(details),
            "thumbnails": embed_json(self.thumbnails),
            "volumes": embed_json(described),
        }

    def volume_texts(self) -> dict[str, str]:
        """Files under the ids of their elements; models that were given the same image share it."""
        return {_element(layer.nifti): layer.nifti for entry in self.volumes.values() for layer in entry.files}


def page_size(pieces: Sequence[str | None]) -> int:
    """Bytes of ASCII text."""
    return sum(len(piece) for piece in pieces if piece)


def _compact(rows: Sequence[Mapping[str, Any]], columns: Sequence[ListColumn]) -> list[list[Any]]:
    """Values in the order of the columns, each with the text below it: names once a page, not once a row."""
    fields = [field for column in columns for field in (column.field, column.below) if field]
    return [[row.get(field) for field in fields] for row in rows]


def _element(nifti: str) -> str:
    return "volume-" + hashlib.sha256(nifti.encode("ascii")).hexdigest()[:16]
