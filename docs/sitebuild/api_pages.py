"""Reference pages of the Python API, which autodoc fills: what `paribus` exports, and the modules that a package of
one's own builds on."""

import importlib
from collections.abc import Iterable, Iterator

import paribus
from sitebuild.markdown import page, prose, table, toctree

FOLDER = "api"
_GROUPS = {  # packages of an exported name's home -> page, title, what it is about
    ("techniques",): ("techniques", "Techniques", "For a training loop of your own; they need no config."),
    ("models", "interop"): ("networks", "Networks and weights", "Networks, and weights to and from timm and exports."),
    ("runs", "study"): ("runs", "Runs and studies", "Training, and reading what was trained."),
}
_CALLED = {  # packages that are called themselves -> what answers
    "runs": "paribus.runs.run.find_runs",
    "study": "paribus.study.results.open_study",
}
_ALSO = {  # page -> what its functions return, and what docs/ imports besides
    "runs": (
        "paribus.runs.run.RunList",
        "paribus.runs.run.History",
        "paribus.study.results.StudyResults",
        "paribus.core.table.Rows",
        "paribus.runs.predict.open_predictor",
        "paribus.runs.saved_run.load_saved_run",
    )
}
CONTRACTS = (  # modules that a package of one's own builds on
    "paribus.core.protocols",
    "paribus.core.build",
    "paribus.core.batch",
    "paribus.core.progress",
    "paribus.core.streams",
    "paribus.core.mixing",
    "paribus.core.sums",
    "paribus.core.evaluation",
    "paribus.core.capabilities",
    "paribus.core.errors",
    "paribus.core.exit_codes",
)


def list_names() -> dict[str, str]:
    """Each public name of `paribus` -> where it is defined."""
    homes = {name: f"{paribus._HOMES[name]}.{name}" for name in paribus.__all__ if name in paribus._HOMES}
    return homes | _CALLED


def build_pages() -> dict[str, str]:
    """Name in the site -> Markdown."""
    pages = {f"{FOLDER}/{name}.md": text for name, text in _build_exported()}
    pages |= {f"{FOLDER}/{name_module(module)}.md": _build_module(module) for module in CONTRACTS}
    exported = [(f"[{title}]({name}.md)", prose(about)) for name, title, about in _GROUPS.values()]
    contracts = [(f"[`{module}`]({name_module(module)}.md)", prose(_first_line(module))) for module in CONTRACTS]
    names = [*(name for name, _, _ in _GROUPS.values()), *map(name_module, CONTRACTS)]
    index = page(
        "Python API",
        "`import paribus` loads nothing heavy until one of its names is used.",
        table(("what `paribus` exports", "what it is"), exported),
        "A technique, model, data set or evaluator of your own builds on these ([how](../../extending.md)):",
        table(("module", "what it is"), contracts),
        toctree(names, hidden=True),
    )
    return pages | {f"{FOLDER}/index.md": index}


def name_module(module: str) -> str:
    return module.removeprefix("paribus.").replace(".", "_")


def _first_line(module: str) -> str:
    doc = importlib.import_module(module).__doc__ or ""
    return " ".join(doc.split("\n\n")[0].split())


def _build_exported() -> Iterator[tuple[str, str]]:
    homes, placed = list_names(), set[str]()
    for packages, (name, title, about) in _GROUPS.items():
        found = {key: home for key, home in homes.items() if home.split(".")[1] in packages}
        placed |= set(found)
        parts = [
            part for key, home in sorted(found.items(), key=lambda one: one[0].lower()) for part in _show(key, home)
        ]
        also = [_automatic(home) for home in _ALSO.get(name, ())]
        yield name, page(title, about, *parts, *(["## Also"] if also else []), *also)
    if left := homes.keys() - placed:
        raise ValueError(f"docs/sitebuild/api_pages.py: no page for {', '.join(sorted(left))}; add their package")


def _show(name: str, home: str) -> Iterator[str]:
    module = home.rpartition(".")[0]
    path = module.replace(".", "/")
    source = getattr(importlib.import_module(module), "__file__", "") or ""
    file = f"src/{path}/__init__.py" if source.endswith("__init__.py") else f"src/{path}.py"
    yield f"## paribus.{name}"
    yield _automatic(home if name in _CALLED else f"paribus.{name}")
    yield f"Defined in [`{file}`](../../../{file})."


def _automatic(name: str) -> str:
    module, _, last = name.rpartition(".")
    thing = getattr(importlib.import_module(module), last)
    kind = "autoclass" if isinstance(thing, type) else "autofunction"
    return _rest([f".. {kind}:: {name}", *(["   :members:"] if kind == "autoclass" else [])])


def _build_module(module: str) -> str:
    file = f"src/{module.replace('.', '/')}.py"
    parts = [_rest([f".. automodule:: {module}", "   :members:"]), f"Defined in [`{file}`](../../../{file})."]
    return page(module, *parts)


def _rest(lines: Iterable[str]) -> str:
    return "\n".join(["```{eval-rst}", *lines, "```"])
