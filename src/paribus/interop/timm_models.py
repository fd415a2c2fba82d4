"""Our networks in timm's registry, on request: `timm.create_model("paribus_pit_s")`, and timm's own scripts, make them.

Nothing happens on import; timm, which takes seconds, is imported when `register_with_timm` is called.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from torch import nn

from paribus.techniques.pit import VARIANTS, Variant, pit
from paribus.techniques.rexnet import rexnet

default_cfgs: dict[str, Any] = {}  # timm looks for them in the module of an entry point


def register_with_timm() -> tuple[str, ...]:
    """Make timm know our published networks, under the names returned; calling it again changes nothing.

    paribus_rexnet_100 (090, 130, 150, 200, 300), paribus_rexnetr_100 (…, in multiples of 8, at 300 of 16),
    paribus_rexnet_lite_100 (130, 150, 200), paribus_pit_ti (xs, s, b) and paribus_pit_ti_distilled (…).

    `timm.create_model` takes num_classes (0: no classifier), in_chans, drop_rate, drop_path_rate and, for PiT,
    img_size; anything else goes to `paribus.rexnet` and `paribus.pit`, so `strides=32, checkpointing=True` work too.
    drop_rate is the authors': before ReXNet's classifier, of PiT's embedding and blocks. Distilled networks train on
    the mean of their classifiers, as timm's do, until `set_distilled_training(True)`. There are no pretrained weights
    under these names; `load_timm_weights` takes timm's.

    >>> import timm, paribus
    >>> "paribus_pit_s" in paribus.register_with_timm()
    True
    >>> net = timm.create_model("paribus_pit_s", img_size=160, num_classes=10)
    """
    from timm.models import generate_default_cfgs, is_model, register_model

    factories = _list_factories()
    for name, (make, config) in factories.items():
        if not is_model(name):
            default_cfgs.update(generate_default_cfgs({name: config}))
            entry = globals()[name] = _make_entry_point(name, make)
            register_model(entry)
    return tuple(factories)


def _list_factories() -> dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]]:
    """By name: what makes the network from timm's arguments, and its entry in timm's configuration."""
    rexnets: dict[str, dict[str, Any]] = {
        f"rexnet_{width:03}": {"width": width / 100} for width in (90, 100, 130, 150, 200, 300)
    }
    for width in (100, 130, 150, 200, 300):
        rexnets[f"rexnetr_{width}"] = {"width": width / 100, "divisor": 16 if width == 300 else 8}
    for width in (100, 130, 150, 200):
        rexnets[f"rexnet_lite_{width}"] = {"width": width / 100, "lite": True}
    pits: dict[str, dict[str, Any]] = {f"pit_{variant}": {"variant": variant} for variant in VARIANTS}
    pits |= {f"{name}_distilled": {**args, "distilled": True} for name, args in pits.items()}
    return {
        **{
            f"paribus_{name}": (
                partial(_make_rexnet, **args),
                _timm_config("stem.conv", "classifier", 0.875, pool_size=(7, 7)),
            )
            for name, args in rexnets.items()
        },
        **{
            f"paribus_{name}": (
                partial(_make_pit, **args),
                _timm_config("stem", "classifiers.0", 0.9, fixed_input_size=True),
            )
            for name, args in pits.items()
        },
    }


def _timm_config(first_conv: str, classifier: str, crop: float, **more: Any) -> dict[str, Any]:
    return {"first_conv": first_conv, "classifier": classifier, "crop_pct": crop, "interpolation": "bicubic", **more}


def _make_rexnet(drop_rate: float = 0.2, drop_path_rate: float = 0.0, **args: Any) -> nn.Module:
    return rexnet(dropout=drop_rate, drop_path=drop_path_rate, **args)


def _make_pit(
    variant: Variant, img_size: int | tuple[int, int] = 224, drop_path_rate: float = 0.0, **args: Any
) -> nn.Module:
    size = (img_size[0], img_size[1]) if isinstance(img_size, tuple | list) else img_size
    model = pit(variant, size, drop_path=drop_path_rate, **args)
    model.set_distilled_training(False)
    return model


def _make_entry_point(name: str, make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def entry(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
        num_classes: int = 1000,
        **args: Any,
    ) -> nn.Module:
        from timm.models import resolve_pretrained_cfg

        del cache_dir
        if pretrained:
            raise ValueError(
                f"{name} has no pretrained weights of its own; paribus.load_timm_weights(model, state_dict) takes "
                "those of timm's network"
            )
        model = cast(Any, make(num_classes=num_classes or 1, **args))
        if num_classes == 0:
            model.reset_classifier(0)
        config = resolve_pretrained_cfg(name, pretrained_cfg, pretrained_cfg_overlay).to_dict()
        size = getattr(model, "image", tuple(config["input_size"])[1:])
        config |= {"num_classes": num_classes, "input_size": (args.get("in_chans", 3), *size)}
        model.pretrained_cfg = model.default_cfg = config
        return model

    entry.__name__ = entry.__qualname__ = name
    return entry
