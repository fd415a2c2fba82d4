"""samples/ of a study: what the generators of its arms draw, one picture an arm, of the first seed. Committed.

A picture comes from the run folder of a row (`paribus study report`) or from `paribus study measure`, and stays when
run folders go. It says itself what it is of, in a text chunk of the PNG: one that is not of the row on record is told
and not shown.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.study.measures import Measure
from paribus.study.rows import Row
from paribus.study.spec import Study

_KEYWORD = "paribus"  # of the text chunk


@dataclass(frozen=True)
class PictureOf:
    """What a picture is of. id: of the row's recipe. step: after which it was drawn. evaluator: which drew it."""

    arm: str
    seed: int
    id: str
    step: int
    evaluator: str
    caption: str = ""

    @property
    def file(self) -> str:
        """Its path in the study's folder."""
        more = "" if self.evaluator == runfolder.SAMPLES else f"-{self.evaluator}"
        return f"{runfolder.SAMPLES}/{self.arm}{more}.png"


@dataclass(frozen=True)
class Picture:
    of: PictureOf
    png: bytes


@dataclass(frozen=True)
class Pictures:
    """shown: in the order of the arms. other_row: files that are of no row on record."""

    shown: tuple[Picture, ...] = ()
    other_row: tuple[str, ...] = ()


def keep_of_runs(study: Study, rows: Iterable[Row], folders: Mapping[str, Path]) -> None:
    """Copy what the runs of the first seed drew last into the study's folder. folders: cell -> run folder; one that is
    not there, or has another run by now, leaves what was kept. Raises ConfigError."""
    for row in _first_seed(study, rows):
        folder = folders.get(row.cell)
        if folder is None or runfolder.read_json(folder / runfolder.SUMMARY).get("id") != row.id:
            continue
        for evaluator, content in _find_images(runfolder.read_json(folder / runfolder.EVALUATION)):
            path = folder / str(content.get("file"))
            if path.is_file():
                of = PictureOf(row.arm, row.seed, row.id, row.steps, evaluator, str(content.get("caption", "")))
                _write(study, of, path.read_bytes())


def keep_of_measure(study: Study, measure: Measure, step: int) -> Measure:
    """The measure without pictures, which are too large for a line; those of the first seed are kept. Raises
    ConfigError."""
    found = {measure.evaluator: measure.details}
    for _, content in _find_images(found):
        if measure.seed == study.spec.seeds[0]:
            of = PictureOf(
                measure.arm, measure.seed, measure.id, step, measure.evaluator, str(content.get("caption", ""))
            )
            _write(study, of, base64.b64decode(content["png"]))
    kept = {name: node for name, node in measure.details.items() if "image" not in node}
    return replace(measure, details=kept)


def read_pictures(study: Study, rows: Iterable[Row]) -> Pictures:
    """Those of rows on record. Raises ConfigError for a file that is no PNG, or says not what it is of."""
    place = {arm: k for k, arm in enumerate(study.spec.arms)}
    ids = {(row.arm, row.seed): row.id for row in rows}
    shown: list[Picture] = []
    others: list[str] = []
    for path in sorted((study.folder / runfolder.SAMPLES).glob("*.png")):
        png = path.read_bytes()
        of = _read_of(_open(png, path), path)
        if of.arm in place and ids.get((of.arm, of.seed)) == of.id:
            shown.append(Picture(of, png))
        else:
            others.append(f"{runfolder.SAMPLES}/{path.name}")
    return Pictures(tuple(sorted(shown, key=lambda one: (one.of.evaluator, place[one.of.arm]))), tuple(others))


def explain_other_row(pictures: Pictures) -> str:
    return (
        f"Pictures that are of no row on record, and left out: {format_list(pictures.other_row)}. Delete them, or make "
        "the report where the run folders are."
    )


def _first_seed(study: Study, rows: Iterable[Row]) -> Iterator[Row]:
    return (row for row in rows if row.state == "done" and row.seed == study.spec.seeds[0])


def _find_images(details: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The pictures of an evaluation, by the names they have in files: the evaluator's, with the detail's where it has
    several."""
    for evaluator, found in details.items():
        images = {name: node["image"] for name, node in found.items() if "image" in node}
        for name, content in images.items():
            yield evaluator if len(images) == 1 else f"{evaluator}_{name}", content


def _write(study: Study, of: PictureOf, png: bytes) -> None:
    """Nothing where the file shows the same already: another Pillow compresses the same pixels to other bytes."""
    path = study.folder / of.file
    image = _open(png, path)
    try:
        if not path.exists() or not _is_same(_open(path.read_bytes(), path), image, of):
            text, content = PngInfo(), BytesIO()
            text.add_text(_KEYWORD, json.dumps(asdict(of)))
            image.save(content, "PNG", pnginfo=text)
            path.parent.mkdir(exist_ok=True)
            runfolder.write_atomically(path, content.getvalue())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _is_same(kept: Image.Image, image: Image.Image, of: PictureOf) -> bool:
    said = kept.info.get(_KEYWORD) == json.dumps(asdict(of))
    return said and (kept.mode, kept.size, kept.tobytes()) == (image.mode, image.size, image.tobytes())


def _read_of(image: Image.Image, path: Path) -> PictureOf:
    if _KEYWORD not in image.info:
        raise ConfigError(f"{path}: it does not say which run it is of; paribus study report writes what belongs here")
    said = json.loads(image.info[_KEYWORD])
    return PictureOf(**{field.name: said[field.name] for field in fields(PictureOf)})


def _open(png: bytes, path: Path) -> Image.Image:
    """With its pixels. Raises ConfigError where it is no whole PNG."""
    try:
        image = Image.open(BytesIO(png), formats=["PNG"])
    except UnidentifiedImageError as error:
        raise ConfigError(f"{path} is no PNG; delete it, or restore it from git") from error
    try:
        image.load()
    except (OSError, SyntaxError) as error:  # Pillow raises either, by where the file ends
        raise ConfigError(f"{path} is cut off; delete it, or restore it from git") from error
    return image
