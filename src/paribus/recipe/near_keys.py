"""What a key that does not exist may have meant: `lr` is optimizer.lr here, and `epochs=3` is steps=3ep."""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from paribus.core.build import did_you_mean

# The field's other words for our keys. A name that is the last part of a key (lr, momentum) needs no line.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        alias: key
        for key, aliases in {
            "batch_size": "bs batch batchsize train_batch_size per_device_train_batch_size",
            "optimizer.lr": "learning_rate base_lr",
            "optimizer.weight_decay": "wd",
            "optimizer.momentum": "momentum",
            "optimizer": "optim opt",
            "schedule": "scheduler lr_scheduler sched",
            "model": "arch network net backbone",
            "model.dropout": "dropout drop drop_rate",
            "objective": "loss criterion",
            "objective.smoothing": "label_smoothing",
            "objective.class_weights": "class_weight weight",
            "data.sampling": "sampler",
            "data.channels": "in_chans in_channels",
            "data": "dataset",
            "data.root": "root data_dir data_path datadir data_root",
            "data.workers": "workers num_workers n_workers",
            "data.size": "img_size image_size input_size resolution",
            "data.minival": "val_split",
            "technique": "techniques augmentation method_name",
            "experiment": "exp config",
            "seed": "seeds random_seed",
            "steps": "length",
            "paths.runs": "output_dir output out save_dir log_dir logdir",
            "name": "run_name exp_name",
            "runtime.device": "accelerator gpu",
            "runtime.threads": "num_threads",
            "update.precision": "amp fp16 bf16 mixed_precision dtype",
            "update.accumulate": "grad_accum accumulation_steps accum_iter gradient_accumulation_steps "
            "accumulate_grad_batches",
            "update.clip_norm": "clip_grad grad_clip gradient_clip_val max_grad_norm clip",
            "ema.decay": "ema_decay model_ema_decay",
            "every.log": "log_interval log_every log_freq",
            "every.evaluate": "eval_interval eval_every val_interval check_val_every_n_epoch",
            "every.checkpoint": "save_interval save_every save_freq checkpoint_interval",
            "tracker": "logger wandb",
        }.items()
        for alias in aliases.split()
    }
)
# Lengths are one key, in epochs or in batches: the unit, and an example where no number was given.
_LENGTHS = {
    **dict.fromkeys(("epochs", "epoch", "max_epochs", "num_epochs", "n_epochs", "total_epochs"), ("ep", "90")),
    **dict.fromkeys(("max_steps", "num_steps", "total_steps", "max_iters", "iterations", "iters"), ("ba", "500")),
}
_PROCESSES = "several processes are started by torchrun --nproc-per-node=N -m paribus.cli train"
_ADVICE = {
    **dict.fromkeys(("gpus", "devices", "ngpus", "num_gpus", "world_size", "nproc"), _PROCESSES),
    **dict.fromkeys(("resume", "resume_from", "ckpt_path", "checkpoint"), "the same command again resumes a run"),
}


def explain_unknown_key(key: str, known: Iterable[str], value: Any = None) -> str:
    """What follows "no such key": " (did you mean optimizer.lr?)", or other advice, or nothing. known: dotted keys.

    >>> explain_unknown_key("lr", ["optimizer.lr"]), explain_unknown_key("epochs", ["steps"], 3)
    (' (did you mean optimizer.lr?)', ' (did you mean steps=3ep?)')
    """
    known = [k for k in dict.fromkeys(known) if not f"{key}.".startswith(f"{k}.") and not k.endswith("._target_")]
    last = _last_part(key)
    if last in _LENGTHS:
        unit, example = _LENGTHS[last]
        return f" (did you mean steps={value if str(value).isdecimal() else example}{unit}?)"
    if last in _ADVICE:
        return f"; {_ADVICE[last]}"
    if same := find_same(key, _keep_nearby(key, known)):
        return format_near(same[:2])
    if (alias := ALIASES.get(last)) is not None and alias not in known:
        return f"; {alias} is a key of other choices of {alias.partition('.')[0]}="
    parent = key.rpartition(".")[0]  # shared by its neighbours, which are therefore all close as wholes
    beside = [k for k in known if parent and k.rpartition(".")[0] == parent]
    if close := _find_close_last_parts(last, beside, 0.6):
        return format_near(close)
    return did_you_mean(key, known) or ("" if "." in key else format_near(_find_close_last_parts(last, known)))


def _keep_nearby(key: str, known: list[str]) -> list[str]:
    """Of a key three parts deep those that begin alike: who writes method.penalties.r1.weight means no objective.*."""
    alike = [k for k in known if k.startswith(f"{key.partition('.')[0]}.")]
    return alike if alike and key.count(".") > 1 else known


def find_same(key: str, known: Iterable[str]) -> list[str]:
    """The keys that end as this one does, the shortest first; else the one that the field also calls so.

    >>> find_same("lr", ["optimizer.lr", "seed"]), find_same("bs", ["batch_size"])
    (['optimizer.lr'], ['batch_size'])
    """
    last, known = _last_part(key), list(known)
    same = sorted((k for k in known if _last_part(k) == last), key=len)
    return same or [k for k in known if k == ALIASES.get(last)]


def list_keys(node: Any, path: str = "") -> list[str]:
    """The dotted keys of a config, of every depth.

    >>> list_keys({"seed": 0, "optimizer": {"lr": 1}})
    ['seed', 'optimizer', 'optimizer.lr']
    """
    here = [path] if path else []
    if not isinstance(node, Mapping):
        return here
    return [*here, *(key for k, v in node.items() for key in list_keys(v, f"{path}.{k}" if path else str(k)))]


def _find_close_last_parts(word: str, known: list[str], cutoff: float = 0.75) -> list[str]:
    parts = {k.rpartition(".")[2]: k for k in sorted(known, key=len, reverse=True)}
    return [parts[part] for part in difflib.get_close_matches(word, list(parts), n=2, cutoff=cutoff)]


def _last_part(key: str) -> str:
    return key.rpartition(".")[2].lower().replace("-", "_")


def format_near(keys: list[str]) -> str:
    return f" (did you mean {' or '.join(keys)}?)" if keys else ""
