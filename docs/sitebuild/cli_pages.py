"""Reference pages of the command line: one for each command, from the parser itself. `paribus train` is Hydra's and has
what its --help has."""

import argparse
from collections.abc import Iterator

from paribus.cli import train_help, tree
from paribus.cli.options import Parser, exit_codes
from paribus.cli.tree import Command
from sitebuild.markdown import block, code, page, paragraphs, prose, table, toctree

FOLDER = "cli"
_SAYS_ITSELF = (None, False, [], argparse.SUPPRESS)  # defaults of which there is nothing to say


def list_commands(above: tuple[Command, ...] = (tree.ROOT,)) -> Iterator[tuple[Command, ...]]:
    """Every listed command with those it is under, the root first."""
    for command in above[-1].commands:
        if not command.hidden:
            yield (*above, command)
            yield from list_commands((*above, command))


def name_page(found: tuple[Command, ...]) -> str:
    """
    >>> from paribus.cli import tree
    >>> name_page(tree.find(["study", "run"])[0])
    'study_run'
    """
    return "_".join(command.name for command in found[1:])


def build_pages() -> dict[str, str]:
    """Name in the site -> Markdown."""
    commands = list(list_commands())
    pages = {f"{FOLDER}/{name_page(found)}.md": _build_page(found) for found in commands}
    rows = [(f"[{code(_type(found))}]({name_page(found)}.md)", prose(found[-1].help)) for found in commands]
    above = "From the program's own parser: what `paribus COMMAND --help` prints says the same. "
    above += "[Commands by task, exit codes and environment variables](../../command_line.md)."
    top = [name_page(found) for found in commands if len(found) == 2]
    index = page("Commands", above, table(("command", "what it does"), rows), toctree(top, hidden=True))
    return pages | {f"{FOLDER}/index.md": index}


def _type(found: tuple[Command, ...]) -> str:
    return " ".join(command.name for command in found)


def _build_page(found: tuple[Command, ...]) -> str:
    command, parser = found[-1], tree.parser_of(found)
    if command.name == "train":
        return page(_type(found), *_describe_train())
    if command.commands:
        subs = [(*found, sub) for sub in command.commands if not sub.hidden]
        rows = [(f"[{code(_type(sub))}]({name_page(sub)}.md)", prose(sub[-1].help)) for sub in subs]
        parts = [table(("command", "what it does"), rows), paragraphs(parser.epilog or "")]
        parts.append(toctree([name_page(sub) for sub in subs], hidden=True))
        return page(_type(found), paragraphs(parser.description or ""), *parts)
    usage = block(format_usage(parser))
    return page(
        _type(found), paragraphs(parser.description or ""), usage, *_describe(parser), paragraphs(parser.epilog or "")
    )


def format_usage(parser: Parser) -> str:
    """For a page, not for this terminal's width."""
    formatter = parser.formatter_class(prog=parser.prog, width=100)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help().strip()


def _describe(parser: Parser) -> Iterator[str]:
    """A table for each group of arguments."""
    usual = {"positional arguments": "Arguments", "options": "Options"}
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
        if not actions:
            continue
        title = usual.get(group.title or "", f"Options: {group.title}")
        yield f"## {title}"
        yield paragraphs(group.description or "")
        yield table(("argument", "meaning", "default"), [_describe_action(parser, action) for action in actions])


def _describe_action(parser: Parser, action: argparse.Action) -> tuple[str, str, str]:
    formatter = parser.formatter_class(prog=parser.prog, width=1000)
    names = formatter._format_action_invocation(action)
    text = prose(formatter._expand_help(action)) if action.help else ""
    choices = [str(choice) for choice in action.choices or ()]
    if choices and not all(choice in names for choice in choices):
        text += f"; one of {', '.join(map(code, choices))}"
    if action.required and action.option_strings:
        return code(names), text, "required"
    default = action.default
    shown = default not in _SAYS_ITSELF and not isinstance(action, argparse._VersionAction)
    return code(names), text, code(" ".join(default) if isinstance(default, list) else str(default)) if shown else ""


def _describe_train() -> Iterator[str]:
    yield "Trains one run; the same command again resumes it. A finished run is not run again."
    yield block("paribus train [experiment=NAME] [technique=NAME | technique=[A,B]] [KEY=VALUE ...]")
    yield "What can be chosen and set is in the [config reference](../config/index.md)."
    yield "## Examples"
    yield table(("command", "what it is"), [(code(typed), prose(text)) for typed, text in train_help.EXAMPLES])
    yield "## Options"
    yield table(("argument", "meaning"), [(code(typed), prose(text)) for typed, text in train_help.FLAGS])
    yield exit_codes(train_help.CODES)
