"""Weights from anywhere into a recipe's network: names matched, a head of another size left as it was initialised."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from torch import Tensor, nn

from paribus.core.capabilities import list_added_parts
from paribus.core.errors import ConfigError, count_and_list, explain_misfit
from paribus.core.formatting import format_count
from paribus.core.protocols import DataSets
from paribus.interop.timm_weights import from_timm_state_dict, list_timm_names
from paribus.interop.weight_files import Weights


def load_start_weights(model: nn.Module, weights: Weights, source: str, data: DataSets, strict: bool) -> str:
    """Load weights into a network that has been initialised, and say in one line what was loaded.

    A head for another number of classes, or one that the file lacks, keeps its initialisation. source: what the user
    named. strict: anything else that does not fit is refused; else what fits is loaded. Raises ConfigError with the
    names of what is missing, left over and of another shape.
    """
    own = model.state_dict()
    found = match_names(model, weights.tensors)
    added = [part for part in list_added_parts(model) if not any(name.startswith(f"{part}.") for name in found)]
    heads = find_new_heads(model, found, data.spec.classes)
    new = {name for name in own if name.rpartition(".")[0] in heads or name.startswith(tuple(f"{p}." for p in added))}
    fitting = {name: t for name, t in found.items() if name in own and name not in new and t.shape == own[name].shape}
    rest = {name: t for name, t in found.items() if name not in new and name not in fitting}
    kept = {name: own[name] for name in new}
    try:
        if not fitting or strict:
            model.load_state_dict({**fitting, **rest, **kept})
        else:
            model.load_state_dict({**fitting, **kept}, strict=False)
    except RuntimeError as error:
        advice = "init_strict=false loads what fits" if fitting else "nothing of it fits: is it of another network?"
        raise ConfigError(f"init_from: {source} does not fit model: {explain_misfit(error)}; {advice}") from error
    parts = [f"{len(fitting)} of {len(own)} tensors loaded", *_explain_heads(heads, data.spec.classes)]
    parts += [f"{part} is as it is initialised, since the file's network has none" for part in added]
    parts += _explain_rest(own, found, new)
    if weights.class_ids and data.class_ids and weights.class_ids != data.class_ids and not heads:
        parts.append("its classes are others than the data's, or in another order: the head is taken as it is")
    return f"{source}: {'; '.join(parts)}"


def match_names(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the network's names, as far as they can be told: without what a wrapper put in front (`module.`
    of DDP, `_orig_mod.` of torch.compile, `model.` of Lightning), with what the network itself has in front, and from
    timm's names where the network is ours."""
    own = set(model.state_dict())
    try:
        timm_names = set(list_timm_names(model).values())
    except ValueError:  # not a network of ours that timm has
        timm_names = set[str]()
    found = {name: t for name, t in tensors.items() if name != "n_averaged"}  # a counter of torch's AveragedModel
    there, here = find_fronts(found, own | timm_names)
    found = {here + name.removeprefix(there) if name.startswith(there) else name: t for name, t in found.items()}
    if len(timm_names & set(found)) > len(own & set(found)):
        found = from_timm_state_dict(model, found)
    return found


def find_fronts(names: Collection[str], known: Collection[str]) -> tuple[str, str]:
    """What stands in front of a file's names, and in front of the network's (`known`), where they are equal otherwise.
    Nothing where some are equal as they are, or most are not equal either way.

    >>> find_fronts(["module.fc.weight", "module.fc.bias", "epoch"], ["net.fc.weight", "net.fc.bias"])
    ('module.', 'net.')
    """
    if not names or any(name in known for name in names):
        return "", ""
    fronts: dict[str, list[str]] = {}  # the end of a name of the network -> what may stand before
    for name in known:
        for front in _list_fronts(name):
            fronts.setdefault(name.removeprefix(front), []).append(front)
    counts = Counter(
        (there, here)
        for name in names
        for there in _list_fronts(name)
        for here in fronts.get(name.removeprefix(there), ())
    )
    best, count = counts.most_common(1)[0] if counts else (("", ""), 0)
    # a quarter of the network's: `known` may hold its names twice, as ours and as timm's
    return best if 2 * count > len(names) and 4 * count > len(known) else ("", "")


def find_new_heads(model: nn.Module, found: Mapping[str, Tensor], classes: int) -> dict[str, int | None]:
    """The layers with an output for each class that the file has for another number of classes (module -> that number)
    or not at all (None; only where nothing in the file is left over, which might be that head under another name)."""
    heads: dict[str, int | None] = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv2d) or module.weight.shape[0] != classes:
            continue
        there = found.get(f"{name}.weight" if name else "weight")
        if there is None:
            heads[name] = None
        elif there.ndim and there.shape[0] != classes and there.shape[1:] == module.weight.shape[1:]:
            heads[name] = there.shape[0]
    if any(name not in model.state_dict() for name in found):
        heads = {name: number for name, number in heads.items() if number is not None}
    return heads


def _list_fronts(name: str) -> Iterator[str]:
    """ "a.b.c" gives "", "a." and "a.b."."""
    words = name.split(".")
    return ("".join(f"{word}." for word in words[:n]) for n in range(len(words)))


def _explain_heads(heads: Mapping[str, int | None], classes: int) -> list[str]:
    """That heads are new, those of one size in one part."""
    parts: list[str] = []
    for number in dict.fromkeys(heads.values()):
        names = ", ".join(name or "the network itself" for name, n in heads.items() if n == number)
        there = "none" if number is None else format_count(number, "class", "classes")
        parts.append(f"new head for {format_count(classes, 'class', 'classes')} ({names}; {there} in the file)")
    return parts


def _explain_rest(own: Mapping[str, Tensor], found: Mapping[str, Tensor], new: Collection[str]) -> list[str]:
    """What was left out under init_strict=false."""
    missing = [n for n in own if n not in found and n not in new and not n.endswith("num_batches_tracked")]
    shapes = [
        f"{n} {tuple(t.shape)} in the file, {tuple(own[n].shape)} in the network"
        for n, t in found.items()
        if n in own and n not in new and t.shape != own[n].shape
    ]
    left_over = [n for n in found if n not in own]
    kinds = ((missing, "missing"), (left_over, "not in the network"), (shapes, "of another shape"))
    return [count_and_list(items, label) for items, label in kinds if items]
