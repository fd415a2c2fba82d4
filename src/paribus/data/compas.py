"""COMPAS (Larson, Mattu, Kirchner & Angwin, ProPublica 2016): is a defendant arrested again within two years?

The class is two_year_recid, the group is the race (0 African-American, 1 Caucasian; others are left out). Rows are
those of ProPublica's own analysis: screened within 30 days of the arrest, charged with a felony or a misdemeanor, and
with a record. 5,278 are left, of which 30 % are the split `val`. Inputs are age, sex, counts of juvenile felonies,
misdemeanors and other offences, prior counts and the degree of the charge. Left out are the race, which is what nobody
may have annotated; COMPAS's own score, since it is a prediction of the same; and is_recid, which nearly is the label.

It is a test bed of fairness methods because it is known for its bias. Nothing trained on it should decide on people.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from paribus.core.build import schema
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.loaders.epoch_order import Sampling
from paribus.data.loaders.subset import combine_strata, sample_stratified
from paribus.data.tabular import Columns, LabelledRows, Rows, build_tabular_sets, find_root, read_checked_text

_FILE = "compas-two-years.csv"
_SHA256 = "5d4b0e8d45e080b0cc4bf1a23baed0a25c82c5d722b49fbf4462de8a3c059afe"
_RACES = ("African-American", "Caucasian")
_VAL_SHARE = 0.3
COLUMNS = Columns(
    {"age": None, "juv_fel_count": None, "juv_misd_count": None, "juv_other_count": None, "priors_count": None},
    ("sex", "c_charge_degree"),
)
_WHAT = (
    "COMPAS is not there: ProPublica's compas-scores-two-years.csv, reduced to 12 columns without names and dates, as "
    f"{_FILE}"
)


@schema
class Compas:
    """3,695 training and 1,583 test rows, 2 classes and 2 groups (race), which `Batch.also` has as "group".

    root: the folder that holds compas/; else PARIBUS_DATA, else ./data. annotated: share of each class's and group's
    training rows whose group is known; it is -1 for the rest. draw: which rows those are, and which are the test rows:
    any number, another choice for each. train_size: a subset of the training rows, with groups in proportion. minival:
    rows held out from it for selection. sampling: each row once an epoch, or each class equally often.
    """

    root: str | None = None
    annotated: Annotated[float, Field(ge=0, le=1)] = 1.0
    draw: int = 0
    train_size: Annotated[int, Field(ge=1)] | None = None
    minival: Annotated[int, Field(ge=0)] = 0
    sampling: Sampling = "shuffle"

    def is_at(self, root: Path) -> bool:
        """Whether the set's own file lies under this root."""
        return (root / "compas" / _FILE).is_file()

    def __call__(self, place: DeviceContext) -> DataSets:
        table = _read(find_root(self.root, "compas") / _FILE)
        name = f"compas.{self.draw}"
        cells = combine_strata(table.targets, table.groups)
        test = sample_stratified(cells, round(_VAL_SHARE * len(cells)), f"{name}.val")
        rest = torch.ones(len(cells), dtype=torch.bool)
        rest[test] = False
        return build_tabular_sets(
            name,
            table.select(torch.nonzero(rest).flatten()),
            table.select(test),
            COLUMNS,
            place,
            self.annotated,
            self.train_size,
            self.minival,
            self.sampling == "balanced",
            ("not arrested again", "arrested again"),
        )


def _read(path: Path) -> LabelledRows:
    rows: Rows = list(csv.DictReader(io.StringIO(read_checked_text(path, _SHA256, _WHAT))))
    rows = [row for row in rows if row["race"] in _RACES and _counts(row)]
    targets = torch.tensor([int(row["two_year_recid"]) for row in rows])
    return LabelledRows(rows, targets, torch.tensor([_RACES.index(row["race"]) for row in rows]))


def _counts(row: Mapping[str, str]) -> bool:
    """Whether ProPublica's analysis has this row."""
    days = row["days_b_screening_arrest"]
    return (
        days != ""
        and abs(float(days)) <= 30
        and row["is_recid"] != "-1"
        and row["c_charge_degree"] != "O"
        and row["score_text"] not in ("", "N/A")
    )
