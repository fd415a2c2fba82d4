"""Reference pages of the config: one for each group, and one for the keys that are in no group, from the classes and
files that `paribus train --help GROUP` reads."""

from collections.abc import Iterable

from paribus.cli.train_help import CHOSEN, drop_sources, format_assignment, list_groups
from paribus.recipe.compose import compose_config
from paribus.recipe.configs import find_config_folder
from paribus.recipe.describe_keys import (
    RECIPE,
    DescribedKey,
    Option,
    Part,
    describe_group,
    describe_headline,
    describe_keys,
    list_options,
)
from paribus.recipe.key_docs import first_sentence, read_class
from sitebuild.markdown import block, code, page, prose, table, toctree

FOLDER = "config"
UP = "../../.."  # from a page's folder to the top of the checkout
_INTRODUCTION = (
    "`GROUP=NAME` chooses a file of `configs/GROUP/`, `GROUP.KEY=VALUE` sets a key of it; a `+` in front adds one that "
    "the file leaves to its class. A wrong key, type or range is an error before anything is trained. "
    "`paribus train --help GROUP` prints the same as these pages, `paribus train ... --cfg job` a whole config."
)


def build_pages() -> dict[str, str]:
    """Name in the site -> Markdown."""
    folders = [find_config_folder()]
    groups = list_groups(folders)
    pages = {f"{FOLDER}/{group}.md": _build_group(group, list_options(folders, group)) for group in groups}
    rows = []
    for group in groups:
        names = ", ".join(code(option.name) for option in list_options(folders, group))
        rows.append((f"[{code(group)}]({group}.md)", prose(first_sentence(_describe(group))), names))
    above = "Keys that belong to no group: [a recipe's own keys](recipe.md)."
    names = ["recipe", *groups]
    index = page(
        "Config keys",
        _INTRODUCTION,
        above,
        table(("group", "what it is", "options"), rows),
        toctree(names, hidden=True),
    )
    return pages | {f"{FOLDER}/index.md": index, f"{FOLDER}/recipe.md": _build_recipe(groups)}


def _describe(group: str) -> str:
    recipe = read_class(RECIPE)
    assert recipe is not None, "our own source"
    text = CHOSEN.get(group) or (key.text if (key := recipe.key(group)) else "")
    return text[:1].upper() + text[1:]


def _build_group(group: str, options: list[Option]) -> str:
    rows = [
        (f"[{code(option.name)}]({UP}/configs/{group}/{option.name}.yaml)", prose(describe_headline(option)))
        for option in options
    ]
    parts = [prose(_describe(group)), table(("option", "what it is"), rows)]
    if group == "experiment":
        parts.append("`paribus train experiment=NAME --help` shows every key with the value that the recipe gives it.")
    else:
        parts += [_format_part(part) for part in describe_group(group, options) if part.keys]
    return page(group, *parts)


def _format_part(part: Part) -> str:
    values = f"Values of `{part.base}`." if len(part.options) > 1 else ""
    title = part.title.partition("=")[2].replace("|", ", ") if part.options else part.title.rpartition(".")[2]
    chosen = block(part.title, "text")
    return "\n\n".join(filter(None, [f"## {title}", chosen, prose(part.summary), values, format_keys(part.keys)]))


def format_keys(keys: Iterable[DescribedKey]) -> str:
    rows = [
        (
            code(format_assignment(key)),
            prose(key.doc.kind) if key.doc is not None else "",
            prose(drop_sources(key.doc.text)) if key.doc is not None else "",
        )
        for key in keys
    ]
    return table(("key and value", "type and range", "meaning"), rows)


def _build_recipe(groups: Iterable[str]) -> str:
    """The keys of a recipe outside the groups, with the values of the default recipe."""
    keys = [key for key in describe_keys(compose_config([])) if key.path.partition(".")[0] not in groups]
    intro = "With the values that they have by default. Lengths are in epochs (`5ep`) or batches (`500ba`)."
    return page("A recipe's own keys", intro, format_keys(keys))
