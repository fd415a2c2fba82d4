"""Which column is what: as the command line says, else by names that can mean one thing only. What was guessed is
said."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.core.spelling import did_you_mean
from paribus.study.judge.table import SourceTable
from paribus.study.units import is_accuracy

# Names by role, the likelier ones in earlier groups; the first group of which the table has any decides, and then it
# must have one of them only.
NAMES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "arm": (
        ("arm",),
        ("method", "model", "algorithm", "algo", "technique", "variant", "condition", "treatment", "approach"),
        ("optimizer", "activation", "network", "architecture", "arch", "classifier", "system", "experiment"),
        ("group", "job type", "config"),
        ("name",),
    ),
    "seed": (
        ("seed", "random seed", "rng seed", "run seed", "random state"),
        ("trial", "run", "rep", "repeat", "replicate"),
    ),
    "value": (
        ("value", "score", "metric", "result"),
        (
            *("accuracy", "acc", "acc1", "top1", "top 1", "test acc", "test accuracy", "val acc", "val acc1"),
            *("val accuracy", "loss", "test loss", "val loss", "error", "test error", "val error", "reward", "return"),
        ),
    ),
    "n": (("n", "n seeds", "num seeds", "seeds", "n runs", "num runs", "runs", "count"),),
    "mean": (("mean", "avg", "average", "mean accuracy", "accuracy mean", "acc mean", "mean acc", "value mean"),),
    "sd": (("sd", "std", "stdev", "stddev", "std dev", "standard deviation", "accuracy std", "acc std", "value std"),),
    "example": (("example", "example id", "id", "index", "idx", "image", "file", "path", "uid", "question", "sample"),),
    "cluster": (("cluster", "cluster id"),),
    "correct": (("correct", "is correct", "right", "hit", "acc", "accuracy", "score", "value"),),
    "state": (("state", "status"),),
}
FILE = "(file)"  # the column of a row's file name, where several files are given
_WANDB = {"name", "state", "runtime"}  # of the table that W&B exports


@dataclass
class Roles:
    """Role -> column, and those roles that nobody named."""

    table: SourceTable
    given: Mapping[str, str | None]
    found: dict[str, str] = field(default_factory=dict)
    guessed: list[str] = field(default_factory=list)

    def find(self, role: str) -> str | None:
        """The column of a role; None if there is none. Raises ConfigError for a name that the table lacks, or where
        several could be meant."""
        if role in self.found:
            return self.found[role]
        if (named := self.given.get(role)) is not None:
            self.found[role] = check_column(self.table, named, f"--{role}")
            return named
        guess = self._guess(role)
        if guess is not None:
            self.found[role] = guess
            self.guessed.append(role)
        return guess

    def need(self, role: str) -> str:
        column = self.find(role)
        if column is None:
            raise ConfigError(
                f"{self.table.name}: which column is the {role}? Give --{role}; {list_columns(self.table)}"
            )
        return column

    def set(self, role: str, column: str) -> None:
        """A role that follows from what the table holds."""
        self.found[role] = column
        self.guessed.append(role)

    def drop(self, role: str) -> None:
        """Forget a role that the table turned out not to have."""
        self.found.pop(role, None)
        self.guessed = [name for name in self.guessed if name != role]

    def _guess(self, role: str) -> str | None:
        taken = set(self.found.values()) | {name for name in self.given.values() if name}
        normal = {column: normalise(column) for column in self.table.columns if column and column not in taken}
        for names in NAMES[role]:
            match [column for column, name in normal.items() if name in names]:
                case []:
                    continue
                case [column]:
                    return column
                case several:
                    raise ConfigError(
                        f"{self.table.name}: which column is the {role}: {' or '.join(several)}? Give --{role}"
                    )
        return None

    def describe(self) -> str:
        """arm = method, seed = seed, value = acc (by their names)"""
        shown = [f"{role} = {column}" for role, column in self.found.items() if column != FILE]
        guessed = [role for role in self.guessed if self.found[role] != FILE]
        how = f" ({format_list(guessed, 8)}: by the names)" if guessed else ""
        return f"{', '.join(shown)}{how}"


def normalise(column: str) -> str:
    """Lower case, one space between words, no unit in brackets: "Test_Acc (%)" is "test acc"."""
    return " ".join(re.sub(r"\(.*?\)|\[.*?\]", " ", column.lower()).replace("%", " ").translate(_BREAKS).split())


_BREAKS = str.maketrans("_-/.:", "     ")


def check_column(table: SourceTable, column: str, option: str) -> str:
    if column not in table.columns:
        near = did_you_mean(column, table.columns)
        raise ConfigError(f"{table.name}: {option} {column}: no such column{near}; {list_columns(table)}")
    return column


def list_columns(table: SourceTable) -> str:
    return f"there are {format_list((c for c in table.columns if c and c != FILE), 12)}"


def is_wandb_export(table: SourceTable) -> bool:
    return {normalise(column) for column in table.columns} >= _WANDB


def find_value(roles: Roles) -> str:
    """The column of values: as named, by its name, else the only one that holds numbers."""
    found = roles.find("value")
    if found is None:
        numeric = list_numeric(roles)
        accuracies = [column for column in numeric if is_accuracy(last_word(column))]
        match accuracies or numeric:
            case [found]:
                roles.set("value", found)
            case []:
                raise ConfigError(f"{roles.table.name}: no column holds numbers to judge; {list_columns(roles.table)}")
            case several:
                raise ConfigError(
                    f"{roles.table.name}: which column is the value: {format_list(several, 12)}? Give --value"
                )
    return roles.found["value"]


def list_numeric(roles: Roles) -> list[str]:
    """Columns besides those with a role that hold a number in every row that has something there."""
    table, free = roles.table, [c for c in roles.table.columns if c and c not in roles.found.values() and c != FILE]
    return [
        c
        for c in free
        if (cells := [x for x in table.cells(c) if x]) and all(table.number(x) is not None for x in cells)
    ]


def last_word(column: str) -> str:
    """The word that says what a column measures: "Test_Acc (%)" is an acc, "top-1 accuracy" an accuracy."""
    words: Sequence[str] = normalise(column).split()
    return words[-1] if words else ""
