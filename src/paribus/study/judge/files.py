"""From files to a verdict."""

from collections.abc import Sequence
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.study.judge.columns import FILE
from paribus.study.judge.examples import judge_examples
from paribus.study.judge.judged import Judged, JudgeOptions
from paribus.study.judge.runs import judge_runs
from paribus.study.judge.table import STDIN, join_tables, read_table


def judge_files(paths: Sequence[Path], options: JudgeOptions, examples: bool = False) -> Judged:
    """paths: of tables; `-` is standard input. Several files of runs are one table; where it has no column of arms,
    each file is an arm. examples: whether rows are examples that models have right or wrong.

    Raises ConfigError, in one line, for what cannot be read or compared.
    """
    if list(paths).count(STDIN) > 1:
        raise ConfigError("- is given twice; standard input can be read once")
    tables = [read_table(path) for path in paths]
    if examples:
        return judge_examples(tables, options)
    return judge_runs(tables[0] if len(tables) == 1 else join_tables(tables, FILE), options)
