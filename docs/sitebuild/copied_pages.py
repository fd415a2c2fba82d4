"""Pages whose text lies elsewhere in the repository, and is read there too: their links are from there."""

import json
from pathlib import Path
from typing import Any

from sitebuild.markdown import block

FOLDER = "copied"
COPIES = {  # name in the site -> where the text lies
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "slurm_examples": "scripts/slurm/README.md",
    "first_study": "examples/first_study.ipynb",
    "decisions": "experiments/LOG.md",
    "speed_techniques": "experiments/bench/cpu-1-thread.md",
    "speed_data": "experiments/bench/data-cpu-2.md",
    "speed_loop": "experiments/bench/loop-cpu-2.md",
    "speed_start": "experiments/bench/start-cpu.md",
}


def list_origins() -> dict[str, str]:
    """Document of the site -> where its text lies, from the top of the repository."""
    return {f"generated/{FOLDER}/{name}": path for name, path in COPIES.items()}


def build_pages(root: Path) -> dict[str, str]:
    return {f"{FOLDER}/{name}.md": _read(root / path) for name, path in COPIES.items()}


def _read(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text if path.suffix == ".md" else format_notebook(json.loads(text))


def format_notebook(notebook: dict[str, Any]) -> str:
    """Its texts, its code, what it printed and drew."""
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else block(source, "python"))
        parts += filter(None, map(_format_output, cell.get("outputs", ())))
    return "\n\n".join(parts) + "\n"


def _format_output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        picture = "".join("".join(data["image/png"]).split())
        return f"![What the cell above draws](data:image/png;base64,{picture})"
    printed = "".join(output.get("text") or data.get("text/plain", ""))
    return block(printed) if printed.strip() else ""
