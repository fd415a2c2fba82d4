"""`paribus predict`: the class and the probabilities of image files, prepared to the bit as in the run's evaluation."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor

from paribus.core.errors import ConfigError, RunFailed
from paribus.core.protocols import DeviceContext, Predicts
from paribus.data.loaders.preprocessing import FilePreprocessing, find_file_preprocessing
from paribus.data.loaders.unlabelled import unlabelled_batches
from paribus.engine.distributed import World
from paribus.engine.runtime import apply_runtime
from paribus.recipe.build import explain_build_errors, make_device_context
from paribus.runs.evaluation import name_classes
from paribus.runs.saved_run import SavedRun, describe_data, load_network

_USUAL_BATCH = 64  # images, where the run's evaluators say nothing


class PredictedBatch(NamedTuple):
    """paths: of the n files that were read. probabilities: (n, classes) float64 on the CPU. errors: path and reason of
    each file that was not read."""

    paths: tuple[Path, ...]
    probabilities: Tensor
    errors: tuple[tuple[Path, str], ...]


@dataclass(frozen=True)
class Predictor:
    """A trained network with what makes its inputs, and a name for each class that no other has."""

    network: Predicts
    preprocessing: FilePreprocessing
    place: DeviceContext
    classes: tuple[str, ...]
    batch_size: int

    def predict(self, files: Sequence[Path]) -> Iterator[PredictedBatch]:
        """Of each file once, in order. Raises RunFailed if the network's outputs are no numbers."""
        for batch in unlabelled_batches(files, self.preprocessing, self.place, self.batch_size):
            probabilities = torch.empty(0, len(self.classes), dtype=torch.float64)
            if len(batch.paths):
                probabilities = self.network.predict(batch.inputs).double().softmax(1).cpu()
            if not bool(torch.isfinite(probabilities).all()):
                raise RunFailed(f"{batch.paths[0]}: the network's outputs are not finite")
            yield PredictedBatch(batch.paths, probabilities, batch.errors)


def open_predictor(found: SavedRun, batch_size: int | None) -> Predictor:
    """batch_size: None is that of the run's evaluation, with which outputs are equal to the bit as well. Raises
    ConfigError."""
    recipe = found.recipe
    with explain_build_errors("data"):
        preprocessing = find_file_preprocessing(recipe.data)
        data = describe_data(found)
    place = make_device_context(recipe, apply_runtime(recipe.runtime, World()), World())
    network: Any = load_network(found, recipe, data, place)
    if not isinstance(network, Predicts):
        raise ConfigError(f"{found.name}: {type(network).__name__} does not predict classes")
    network.prepare_eval()  # pyright: ignore[reportAttributeAccessIssue]
    evaluated = (getattr(evaluator, "batch_size", None) for evaluator in recipe.evaluators.values())
    names = name_classes(data.names, data.class_ids, data.spec.classes)
    return Predictor(network, preprocessing, place, names, batch_size or next(filter(None, evaluated), _USUAL_BATCH))


class PredictionWriter:
    """Writes a line for each file. top: only so many classes of each, the best first; None: all, in their order.

    CSV: file, class, probability, then p(NAME) of each class, or with `top` class_2, probability_2, ... JSON lines: the
    same three and `probabilities`, by class. Numbers have nine digits: enough to tell any two float32 apart.
    """

    def __init__(self, out: IO[str], classes: Sequence[str], as_json: bool, top: int | None) -> None:
        self._out, self._classes, self._as_json = out, classes, as_json
        self._top = None if top is None else min(top, len(classes))
        self._csv = csv.writer(out, lineterminator="\n")
        if not as_json:
            more = (f"{key}_{k}" for k in range(2, (self._top or 0) + 1) for key in ("class", "probability"))
            self._csv.writerow(["file", "class", "probability", *(more if top else (f"p({c})" for c in classes))])

    def write(self, batch: PredictedBatch) -> None:
        for path, scores in zip(batch.paths, batch.probabilities, strict=True):
            # of equal ones the lower class comes first, as in accuracy
            ranked = scores.sort(descending=True, stable=True).indices.tolist()
            rounded = [float(f"{p:.9g}") for p in scores.tolist()]
            best, shown = ranked[0], ranked[: self._top] if self._top else range(len(rounded))
            first = {"file": str(path), "class": self._classes[best], "probability": rounded[best]}
            if self._as_json:
                all_shown = {self._classes[k]: rounded[k] for k in shown}
                self._out.write(json.dumps({**first, "probabilities": all_shown}, ensure_ascii=False) + "\n")
            elif self._top:
                self._csv.writerow([str(path), *(v for k in shown for v in (self._classes[k], rounded[k]))])
            else:
                self._csv.writerow([*first.values(), *rounded])
        self._out.flush()
