"""The command line is one tree: every command explains itself, and help, errors and completion come from the tree."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paribus.cli import completion, tree
from paribus.cli.arguments.others import GROUPS as GROUPS_OF_CONFIGS
from paribus.cli.main import dispatch
from paribus.cli.options import Parser, completion_of
from paribus.cli.tree import ROOT, Command

CLI = Path(tree.__file__).parent
HEAVY = ("torch", "hydra", "omegaconf", "numpy", "scipy", "matplotlib", "pydantic", "yaml", "rich", "wandb", "PIL")


def walk(above: tuple[Command, ...]) -> Iterator[tuple[Command, ...]]:
    """Every command below, as the commands that lead to it."""
    for command in above[-1].commands:
        yield (*above, command)
        yield from walk((*above, command))


ALL = [(ROOT,), *walk((ROOT,))]
LEAVES = [found for found in ALL if not found[-1].commands]
GROUPS = [found for found in ALL if found[-1].commands]
NOT_TRAIN = [found for found in ALL if not found[-1].raw]


def words(found: tuple[Command, ...]) -> list[str]:
    return [command.name for command in found[1:]]


def name(found: tuple[Command, ...]) -> str:
    return " ".join(words(found)) or "paribus"


def faults(parser: Parser) -> list[str]:
    """What a parser leaves unexplained."""
    unexplained = [] if parser.description else ["no description"]
    for action in {*parser.flags().values(), *parser.positionals()}:
        if not action.help:
            unexplained.append(f"no help on {'/'.join(action.option_strings) or action.dest}")
        if not action.option_strings and not action.metavar:
            unexplained.append(f"no name for {action.dest}")
    return sorted(unexplained)


@pytest.mark.parametrize("found", ALL, ids=name)
def test_every_command_and_every_argument_is_explained(found: tuple[Command, ...]) -> None:
    assert found[-1].help
    parser = tree.parser_of(found)
    assert faults(parser) == []
    if found in LEAVES and found[-1].name != "_complete":
        assert "Exit codes: 0 " in (parser.epilog or "")


def test_twin_what_is_not_explained_is_found() -> None:
    parser = Parser("paribus new")
    parser.add_argument("--flag")
    parser.add_argument("place")
    assert faults(parser) == ["no description", "no help on --flag", "no help on place", "no name for place"]


def test_the_parsers_of_the_whole_tree_are_one() -> None:
    def count(parser: Parser) -> int:
        return 1 + sum(count(sub) for sub in parser.commands().values())

    whole = tree.parser_of((ROOT,))
    assert count(whole) == len(ALL)
    args = whole.parse_args(["study", "run", "here", "--workers", "3"])
    assert (args.study, args.workers) == (Path("here"), 3)


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("found", NOT_TRAIN, ids=name)
def test_help_is_there_at_every_level(found: tuple[Command, ...], flag: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch([*words(found), flag]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    if found == (ROOT,):
        assert all(f"  paribus {name} " in out for name in ROOT.listed())
    else:
        assert out.startswith(f"usage: paribus {name(found)} [-h]")
        listed = [line.split()[0] for line in out.splitlines() if line.startswith("    ") and line.split()]
        assert set(found[-1].listed()) <= set(listed)


@pytest.mark.parametrize("found", GROUPS, ids=name)
def test_without_a_sub_command_there_is_help(found: tuple[Command, ...], capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(words(found)) == dispatch([*words(found), "--help"]) == 0
    out, err = capfd.readouterr()
    assert out[: len(out) // 2] == out[len(out) // 2 :]
    assert err == ""


@pytest.mark.parametrize("found", GROUPS, ids=name)
def test_an_unknown_command_is_one_line_that_names_it_and_what_there_is(
    found: tuple[Command, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert dispatch([*words(found), "nonsense"]) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"paribus: {' '.join([*words(found), 'nonsense'])}: no such command")
    assert ", ".join(found[-1].listed()) in err
    assert err.count("\n") == 1
    assert "_complete" not in err


def test_a_command_that_is_nearly_right_is_told_what_was_meant(capfd: pytest.CaptureFixture[str]) -> None:
    for typed, meant in ((["stdy"], "study"), (["list", "modles"], "models"), (["study", "rnu"], "run")):
        assert dispatch(typed) == 2
        assert f"no such command (did you mean {meant}?)" in capfd.readouterr().err


@pytest.mark.parametrize("found", [found for found in LEAVES if not found[-1].raw], ids=name)
def test_a_command_line_that_is_not_understood_is_one_line(
    found: tuple[Command, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert dispatch([*words(found), "--no-such-flag", "a", "b", "c"]) == 2
    out, err = capfd.readouterr()
    assert err.startswith(f"paribus: {name(found)}: ")
    assert err.endswith(f"; paribus {name(found)} --help shows the usage\n")
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize("found", [found for found in ALL if found[-1].name != "_complete"], ids=name)
def test_completion_offers_every_flag(found: tuple[Command, ...]) -> None:
    flags = {flag for flag in tree.parser_of(found).flags() if flag.startswith("--")}
    assert "--help" in flags
    assert set(completion.candidates([*words(found), "--"])) == flags


@pytest.mark.parametrize("found", LEAVES, ids=name)
def test_what_a_value_completes_to_can_be_looked_up(
    found: tuple[Command, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    parser = tree.parser_of(found)
    for action in [*parser.flags().values(), *parser.positionals()]:
        what = completion_of(action)
        assert what is None or isinstance(what, tuple) or what in completion._KINDS
        if what in ("run", "study", "folder", "file", "run or file"):
            assert completion._values(action, "fol") == ["folder/"]
        elif action.choices or what in ("data set", "override") or isinstance(what, tuple):
            assert completion._values(action, "")


def test_the_flags_of_train_are_those_of_hydra_and_one_of_ours() -> None:
    from hydra._internal.utils import get_args_parser

    hydras = {flag for action in get_args_parser()._actions for flag in action.option_strings}
    ((_, train),) = (found for found in LEAVES if found[-1].name == "train")
    declared = tree.parser_of((ROOT, train)).flags()
    assert set(declared) - hydras == {"-q", "--quiet"}
    assert "--hydra-help" not in declared, "a flag that is Hydra's alone would be in neither set otherwise"


@pytest.mark.parametrize("found", LEAVES, ids=name)
def test_every_command_has_code(found: tuple[Command, ...]) -> None:
    assert callable(tree.load(found[-1]))


def test_the_tree_is_light() -> None:
    code = (
        "import sys\nfrom paribus.cli.tree import ROOT, parser_of\n"
        f"assert parser_of((ROOT,)).commands()\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def parsers_made(source: str) -> list[str]:
    """Classes that inherit from a parser of argparse, and parsers that are made."""
    made = [
        f"class {node.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if ast.unparse(base).endswith(("ArgumentParser", "Parser"))
    ]
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return made + [
        ast.unparse(c.func) for c in calls if ast.unparse(c.func).split(".")[-1] in ("ArgumentParser", "Parser")
    ]


def choices(value: ast.expr) -> list[ast.expr]:
    """What an expression may be: both branches of an `if`, the sides of an `or`."""
    if isinstance(value, ast.IfExp):
        return [*choices(value.body), *choices(value.orelse)]
    return value.values if isinstance(value, ast.BoolOp) else [value]


def codes_written_out(source: str) -> list[str]:
    """Exit codes that stand as numbers: returned by what is declared to return an int, or given to an exit."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.returns is not None and ast.unparse(node.returns) == "int":
            returns = [r.value for r in ast.walk(node) if isinstance(r, ast.Return) and r.value is not None]
            numbers = [n.value for value in returns for n in choices(value) if isinstance(n, ast.Constant)]
            found += [f"{node.name} returns {n}" for n in numbers if type(n) is int]
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("exit", "SystemExit")):
            found += [ast.unparse(node) for argument in node.args if isinstance(argument, ast.Constant)]
    return found


MODULES = sorted(CLI.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CLI)))
def test_one_parser_and_one_table_of_exit_codes(path: Path) -> None:
    source = path.read_text()
    where = {"options.py": ["class Parser"], "tree.py": ["Parser"]}
    assert parsers_made(source) == where.get(str(path.relative_to(CLI)), [])
    if path.name != "options.py":  # whose types of arguments return numbers
        assert codes_written_out(source) == []


def test_twin_another_parser_and_a_number_for_an_exit_code_are_found() -> None:
    source = "class Mine(argparse.ArgumentParser): ...\np = options.Parser('x')\n"
    assert parsers_made(source) == ["class Mine", "options.Parser"]
    source = (
        "def run(args) -> int:\n    return 0 if args else FAILED\ndef leave():\n    os._exit(130)\n    sys.exit(code)\n"
    )
    assert codes_written_out(source) == ["run returns 0", "os._exit(130)"]


def test_no_handwritten_usage() -> None:
    texts = {path: path.read_text() for path in MODULES}
    assert [path for path, text in texts.items() if "usage:" in text] == []


def test_intermixed_words_and_flags_are_one_command() -> None:
    def args(*typed: str) -> dict[str, object]:
        found = tree.read(*tree.find(["verify", *typed]))
        assert found is not None
        return {key: value for key, value in vars(found).items() if key != "typed"}

    first = args("run", "data.root=d", "--steps", "3", "--json")
    assert first == args("--json", "run", "--steps=3", "data.root=d")
    assert first == args("--steps", "3", "run", "--json", "data.root=d")


def test_the_page_of_commands_has_them_all_and_every_exit_code() -> None:
    from paribus.core import exit_codes

    page = (CLI.parents[2] / "docs" / "command_line.md").read_text()
    shown = [name(found) for found in LEAVES if not found[-1].hidden]
    lists = [f"list {group}" for group in GROUPS_OF_CONFIGS]  # named one after the other, without the command
    assert [typed for typed in shown if typed not in lists and f"`paribus {typed}" not in page] == []
    assert [group for group in GROUPS_OF_CONFIGS if f"`{group}`" not in page and f"list {group}`" not in page] == []
    codes = [value for key, value in vars(exit_codes).items() if key.isupper()]
    assert [code for code in codes if f"| {code} |" not in page] == []
