"""Classes of two sets, matched by name."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.labels import choose_class_ids, format_classes, match_classes, read_class_ids, relabel

NAMES = st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True)


@given(known=NAMES, data=st.data())
def test_a_class_is_found_wherever_it_stands(known: list[str], data: st.DataObject) -> None:
    given = data.draw(st.permutations(known))
    assert [known[k] for k in match_classes(given, known, "one", "another")] == given
    part = given[: data.draw(st.integers(1, len(given)))]
    assert [known[k] for k in match_classes(part, known, "one", "another", allow_missing=True)] == part
    if len(part) < len(known):
        with pytest.raises(ConfigError, match="only in another: "):
            match_classes(part, known, "one", "another")


def test_other_classes_are_refused_with_the_names_that_differ() -> None:
    with pytest.raises(ConfigError) as refused:
        match_classes(["cat", "horse"], ["cat", "dog", "cow"], "data.val", "data.train")
    told = "data.val: its classes are not those of data.train; not in data.train: horse; only in data.train: dog, cow"
    assert str(refused.value) == told
    with pytest.raises(ConfigError, match=r"not in data\.train: horse$"):
        match_classes(["cat", "horse"], ["cat", "dog"], "data.val", "data.train", allow_missing=True)


def test_names_that_come_twice_match_nothing() -> None:
    assert choose_class_ids(("n1", "n2"), ("crane", "crane")) == ("n1", "n2")
    assert choose_class_ids((), ("crane", "heron")) == ("crane", "heron")
    assert choose_class_ids((), ("crane", "crane")) == ()


@pytest.mark.parametrize(
    ("ids", "names", "read"),
    [
        (("n1", "n2"), ("crane", "crane"), ("n1", "n2")),
        (("a", "b"), ("a", "b"), ("a", "b")),
        ((), (), ()),
        ((), ("crane", "crane"), ()),
    ],
)
def test_what_is_written_is_read(ids: tuple[str, ...], names: tuple[str, ...], read: tuple[str, ...]) -> None:
    written = format_classes(ids, names)
    assert tuple(written["classes"]) == names
    assert read_class_ids(written) == read
    for other in ({}, {"classes": 3}, {"classes": [3]}, {"classes": ["a"], "class_ids": None}):
        assert read_class_ids(other) is None


def test_labels_follow_their_classes() -> None:
    def batches(batch_size: int) -> list[Batch]:
        ids = torch.arange(3)
        return [Batch(torch.zeros(3, 1, 1, 1), torch.tensor([0, 1, 1]), ids, ids, 3, 2)]

    (batch,) = relabel({"val": batches}, (2, 0), 3)["val"](3)
    assert batch.targets.tolist() == [2, 0, 0]
    assert batch.classes == 3
