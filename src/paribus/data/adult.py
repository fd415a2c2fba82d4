"""Adult (Becker & Kohavi 1996, UCI, CC BY 4.0): does a person earn more than 50,000 dollars a year?

The class is the income, the group is the sex (0 Female, 1 Male). 30,162 rows of adult.data train and 15,060 of
adult.test are the split `val`: those without a missing value. Inputs are age, years of education, hours, capital gain
and loss, work class, marital status, occupation, relationship, race and country. Left out are the sex, which is what
nobody may have annotated; fnlwgt, a weight of the census; and the name of the education, which the years say.
"""

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from paribus.core.build import schema
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.loaders.epoch_order import Sampling
from paribus.data.tabular import Columns, LabelledRows, build_tabular_sets, find_root, read_checked_text

_NAMES = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)
_SHA256 = {
    "adult.data": "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    "adult.test": "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
}
COLUMNS = Columns(
    {"age": None, "education-num": None, "hours-per-week": None, "capital-gain": 99_999, "capital-loss": 4_356},
    ("workclass", "marital-status", "occupation", "relationship", "race", "native-country"),
)
_WHAT = "Adult is not there as UCI ships it, in adult.data and adult.test"


@schema
class Adult:
    """30,162 training and 15,060 test rows, 2 classes and 2 groups (sex), which `Batch.also` has as "group".

    root: the folder that holds adult/; else PARIBUS_DATA, else ./data. annotated: share of each class's and group's
    training rows whose group is known; it is -1 for the rest. draw: which rows those are: any number, another choice
    for each. train_size: a subset of the training rows, with groups in proportion. minival: rows held out from it for
    selection. sampling: each row once an epoch, or each class equally often.
    """

    root: str | None = None
    annotated: Annotated[float, Field(ge=0, le=1)] = 1.0
    draw: int = 0
    train_size: Annotated[int, Field(ge=1)] | None = None
    minival: Annotated[int, Field(ge=0)] = 0
    sampling: Sampling = "shuffle"

    def is_at(self, root: Path) -> bool:
        """Whether the set's own files lie under this root."""
        return (root / "adult" / "adult.data").is_file()

    def __call__(self, place: DeviceContext) -> DataSets:
        folder = find_root(self.root, "adult")
        train, val = (_read(folder / name) for name in _SHA256)
        return build_tabular_sets(
            f"adult.{self.draw}",
            train,
            val,
            COLUMNS,
            place,
            self.annotated,
            self.train_size,
            self.minival,
            self.sampling == "balanced",
            ("<=50K", ">50K"),
        )


def _read(path: Path) -> LabelledRows:
    text = read_checked_text(path, _SHA256[path.name], _WHAT)
    split = [line.rstrip(".").split(", ") for line in text.splitlines() if line and not line.startswith("|")]
    rows = [dict(zip(_NAMES, values, strict=True)) for values in split if "?" not in values]
    targets = torch.tensor([int(row["income"] == ">50K") for row in rows])
    return LabelledRows(rows, targets, torch.tensor([int(row["sex"] == "Male") for row in rows]))
