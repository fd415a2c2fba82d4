"""Translated images under two classifiers: exact counts, each image to every other domain or to a drawn one; and the
picture of some of them."""

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers.pretended_ranks import on_ranks
from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext
from paribus.core.image_grid import GAP_PX, to_bytes
from paribus.core.protocols import DataSets, DeviceContext, Spec
from paribus.core.streams import uniform
from paribus.engine.evaluate import check_method, evaluate
from paribus.evaluators.translation import TranslatedImages
from paribus.models import exported
from paribus.models.judges import Judge
from paribus.models.mlp import MLP

N, DOMAINS, CONTENTS = 42, 3, 5
IDS = torch.arange(N)
TARGETS, CONTENT = IDS % DOMAINS, IDS * 7 % CONTENTS
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # of the data
SPEC = Spec(DOMAINS, 3, 4, 4)
CONTEXT = EvaluationContext(SPEC, DeviceContext(torch.device("cpu")), MEAN, STD, sizes={"val": N})


def show(domain: Tensor, content: Tensor, ids: Tensor) -> Tensor:
    """Inputs: which pixel of the first channel is bright says the domain, of the second the content; the third says the
    image."""
    pixels = torch.zeros(len(ids), 3, 16)
    pixels[:, 0].scatter_(1, domain[:, None], 1.0)
    pixels[:, 1].scatter_(1, content[:, None], 1.0)
    pixels[:, 2] = ids[:, None] / 255
    return (pixels.view(-1, 3, 4, 4) - 0.5) / 0.25


def split(batch_size: int) -> Iterator[Batch]:
    for ids in IDS.split(batch_size):
        inputs = show(TARGETS[ids], CONTENT[ids], ids)
        yield Batch(inputs, TARGETS[ids], ids + 100, ids, len(ids), DOMAINS, also={"content": CONTENT[ids]})


class Repainter:
    """Translates as asked, but for each fifth image, which keeps its domain, and each third, whose content changes. It
    has to be told the right source."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def prepare_eval(self) -> None: ...

    def translate(self, inputs: Tensor, domains: Tensor, sources: Tensor | None = None) -> Tensor:
        assert sources is not None
        pixels = inputs.flatten(2) * 0.25 + 0.5
        ids = (pixels[:, 2, 0] * 255).round().long()
        shown, content = pixels[:, 0].argmax(1), pixels[:, 1].argmax(1)
        self.asked += list(zip(ids.tolist(), sources.tolist(), domains.tolist(), strict=True))
        kept, changed = torch.where(ids % 5 == 0, shown, domains), torch.where(ids % 3 == 0, (content + 1) % 5, content)
        return show(kept, changed, ids)


def picking(path: Path, channel: int, classes: int) -> Judge:
    """An export of a net whose logit k is pixel k of a channel, with a normalisation of its own."""
    weight = torch.zeros(classes, 48)
    weight[torch.arange(classes), 16 * channel + torch.arange(classes)] = 1.0
    state = {"head.weight": weight, "head.bias": torch.zeros(classes)}
    return saved(path, state, classes)


def saved(path: Path, state: dict[str, Tensor], classes: int) -> Judge:
    spec = replace(SPEC, classes=classes)
    inputs = {**vars(spec), "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}
    exported.save(path, MLP(widths=()), spec, state, {"inputs": inputs})
    return Judge(path=str(path))


@pytest.fixture
def judges(tmp_path: Path) -> dict[str, Judge]:
    return {
        "domain_classifier": picking(tmp_path / "domain.safetensors", 0, DOMAINS),
        "content_classifier": picking(tmp_path / "content.safetensors", 1, CONTENTS),
    }


def measure(method: Any, settings: dict[str, Any]) -> dict[str, float]:
    return evaluate(method, {"translation": TranslatedImages(**settings)}, {"val": split}, CONTEXT).metrics  # type: ignore[arg-type]


def test_every_image_goes_to_every_other_domain_and_is_judged_by_both(judges: dict[str, Judge]) -> None:
    method = Repainter()
    found = measure(method, {**judges, "batch_size": 10, "grid": 0})
    pairs = [(i, t) for i in range(N) for t in range(DOMAINS) if t != i % DOMAINS]
    assert found["val/domain_accuracy"] == sum(i % 5 != 0 for i, _ in pairs) / len(pairs)
    assert found["val/content_accuracy"] == sum(i % 3 != 0 for i, _ in pairs) / len(pairs)
    assert found["val/translation_accuracy"] == sum(i % 5 != 0 and i % 3 != 0 for i, _ in pairs) / len(pairs)
    assert found["val/domain_accuracy_untranslated"] == found["val/content_accuracy_untranslated"] == 1.0
    # there and back the content of each third image changes twice: two of 48 values are off by 255
    assert found["val/reconstruction_error"] == 2 * 255 * sum(i % 3 == 0 for i, _ in pairs) / (48 * len(pairs))
    assert sorted(method.asked) == sorted([(i, i % 3, t) for i, t in pairs] + [(i, t, i % 3) for i, t in pairs])
    assert set(found) == set(TranslatedImages(**judges).keys)  # type: ignore[arg-type]
    assert measure(Repainter(), {**judges, "batch_size": 7}) == found


def test_a_drawn_domain_belongs_to_the_image_and_is_never_its_own(judges: dict[str, Judge]) -> None:
    method = Repainter()
    found = measure(method, {**judges, "targets": "drawn"})
    there = method.asked[:N]
    drawn = uniform(0, "translation.targets", 0, IDS + 100, 1)[:, 0]
    assert there == [(i, i % 3, (i + 1 + int(drawn[i] * 2)) % 3) for i in range(N)]
    assert {(source, target) for _, source, target in there} == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert measure(Repainter(), {**judges, "targets": "drawn", "batch_size": 5}) == found
    other = Repainter()
    measure(other, {**judges, "targets": "drawn", "seed": 1})
    assert other.asked[:N] != there


def test_of_a_part_of_the_split_the_content_is_that_of_the_part(judges: dict[str, Judge]) -> None:
    found = measure(Repainter(), {**judges, "limit": 11, "batch_size": 8})
    chosen = [k * N // 11 for k in range(11)]
    assert found["val/content_accuracy_untranslated"] == 1.0
    assert found["val/content_accuracy"] == sum(i % 3 != 0 for i in chosen) / 11


def draw(settings: dict[str, Any], world: int = 1) -> dict[str, Any]:
    evaluator = TranslatedImages(**settings)
    # CONTENT is not needed without classifiers
    sums = on_ranks(evaluator, Repainter(), (show(TARGETS, CONTENT, IDS), TARGETS, IDS + 100), CONTEXT, world)
    return evaluator.details(sums, CONTEXT)["grid"]["image"]


def test_the_picture_shows_an_image_as_it_is_and_then_in_every_other_domain() -> None:
    found = draw({"grid": 4})
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["png"]))))
    side = 4 + GAP_PX
    assert picture.shape == (4 * side + GAP_PX, (1 + DOMAINS) * side + GAP_PX, 3)
    for row, i in enumerate(k * N // 4 for k in range(4)):
        one = (show(TARGETS[i : i + 1], CONTENT[i : i + 1], IDS[i : i + 1]), torch.tensor([int(TARGETS[i])]))
        for column, domain in enumerate([None, 0, 1, 2]):
            top, left = (GAP_PX + k * side for k in (row, column))
            cell = picture[top : top + 4, left : left + 4]
            if domain == int(TARGETS[i]):
                assert (cell == 255).all()
                continue
            there = one[0] if domain is None else Repainter().translate(one[0], torch.tensor([domain]), one[1])
            assert (cell == to_bytes(CONTEXT.to_pixels(there))[0].numpy()).all(), (row, column)
    assert found["caption"] == "4 images of val, as they are, then in 0, 1, 2 (blank: their own)"
    named = replace(CONTEXT, names=("red", "green", "blue"))
    evaluator = TranslatedImages(grid=1)
    image = (show(TARGETS[:1], CONTENT[:1], IDS[:1]), TARGETS[:1], IDS[:1])
    sums = on_ranks(evaluator, Repainter(), image, replace(named, sizes={"val": 1}), 1)
    assert "then in red, green, blue" in evaluator.details(sums, named)["grid"]["image"]["caption"]


@pytest.mark.parametrize(("size", "world"), [(1, 1), (5, 2), (128, 3)])
def test_no_batch_size_and_no_number_of_processes_changes_the_picture(size: int, world: int) -> None:
    assert draw({"grid": 5, "batch_size": size}, world) == draw({"grid": 5})
    assert draw({"grid": 6}) != draw({"grid": 5})


def test_without_images_to_show_there_is_no_picture() -> None:
    splits, here = {"val": split}, {"translation": TranslatedImages()}
    assert evaluate(Repainter(), here, splits, CONTEXT).details["translation"]["grid"]
    for evaluator, context in ((TranslatedImages(grid=0), CONTEXT), (TranslatedImages(), replace(CONTEXT, sizes={}))):
        assert not evaluate(Repainter(), {"translation": evaluator}, splits, context).details.get("translation")


def test_a_classifier_sees_images_with_its_own_normalisation(tmp_path: Path) -> None:
    draws = torch.Generator().manual_seed(0)
    state = {
        "head.weight": torch.randn(DOMAINS, 48, generator=draws),
        "head.bias": torch.randn(DOMAINS, generator=draws),
    }
    judge = saved(tmp_path / "judge.safetensors", state, DOMAINS)
    pixels = torch.randint(256, (N, 3, 4, 4), generator=draws) / 255

    def random_split(batch_size: int) -> Iterator[Batch]:
        yield Batch((pixels - 0.5) / 0.25, TARGETS, IDS, IDS, N, DOMAINS)

    class Nothing(Repainter):
        def translate(self, inputs: Tensor, domains: Tensor, sources: Tensor | None = None) -> Tensor:
            return inputs

    evaluators = {"translation": TranslatedImages(domain_classifier=judge)}
    found = evaluate(Nothing(), evaluators, {"val": random_split}, CONTEXT).metrics  # type: ignore[arg-type]

    def share(mean: Tensor, std: Tensor) -> float:
        inputs = (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        scores = inputs.flatten(1) @ state["head.weight"].T + state["head.bias"]
        return float((scores.argmax(1) == TARGETS).double().mean())

    right = share(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7]))
    assert found["val/domain_accuracy_untranslated"] == right
    assert share(torch.tensor(MEAN), torch.tensor(STD)) != right, "negative control: with the data's"
    assert found["val/reconstruction_error"] == 0
    assert "val/translation_accuracy" not in found


def test_what_does_not_fit_is_refused_before_training(judges: dict[str, Judge], tmp_path: Path) -> None:
    def data(facts: tuple[str, ...], classes: int = DOMAINS) -> DataSets:
        spec = replace(SPEC, classes=classes)
        return DataSets(spec, lambda size, seed: None, {}, {}, "", MEAN, STD, facts={"val": facts})  # type: ignore[arg-type, return-value]

    evaluator = TranslatedImages(**judges)  # type: ignore[arg-type]
    evaluator.check_data(data(("content",)))
    for wrong, words in ((data(("group",)), "has group"), (data(("content",), 1), "data of one class")):
        with pytest.raises(ConfigError, match=words):
            evaluator.check_data(wrong)
    check_method(Repainter(), {"translation": evaluator}, CONTEXT)
    with pytest.raises(ConfigError, match="needs a method with translate"):
        check_method(object(), {"translation": evaluator}, CONTEXT)
    swapped = TranslatedImages(domain_classifier=judges["content_classifier"])
    with pytest.raises(ConfigError, match="tells 5 classes, and the data has 3 domains"):
        check_method(Repainter(), {"translation": swapped}, CONTEXT)
    larger = replace(CONTEXT, spec=replace(SPEC, height=8))
    with pytest.raises(ConfigError, match=r"it takes images of 3×4×4 .*, the data has 3×8×4"):
        check_method(Repainter(), {"translation": evaluator}, larger)
    missing = TranslatedImages(domain_classifier=Judge(path=str(tmp_path / "none.safetensors")))
    with pytest.raises(ConfigError, match=r"evaluators\.translation\.domain_classifier: .*none\.json"):
        check_method(Repainter(), {"translation": missing}, CONTEXT)


def test_a_judge_of_another_kind_of_file_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("no export")
    with pytest.raises(ConfigError, match=r"notes\.md is no export; give the \.safetensors or the \.json"):
        Judge(path=str(tmp_path / "notes.md"))(SPEC)
