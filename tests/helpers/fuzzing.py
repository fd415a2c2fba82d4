"""What fuzzed tests draw from: overrides and trees of values, right and wrong; and commands run in this process."""

import contextlib
import io
import os
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from paribus.cli.main import dispatch
from paribus.recipe.compose import compose_config


def dotted(node: Any, path: str = "") -> list[str]:
    if not isinstance(node, dict):
        return [path]
    return [path, *(key for k, v in node.items() for key in dotted(v, f"{path}.{k}" if path else str(k)))]


KEYS = sorted(
    {*dotted(compose_config(["experiment=smoke", "technique=[cutmix,adamp]"])), "experiment", "technique"} - {""}
)
GROUPS = ["data", "model", "optimizer", "schedule", "experiment", "technique", "runtime", "tracker"]
NAMES = [
    "smoke",
    "smoke_vit",
    "smoke_mobile",
    "digits",
    "synthetic",
    "adamw",
    "sgd",
    "cutmix",
    "adamp",
    "pit",
    "rexnet",
]
VALUES = [
    *("", "null", "true", "-1", "0", "1", "2", "3", "0.5", "-0.5", "1e-3", "nan", "inf", "-inf", "1e400", "abc", "'1'"),
    *("[]", "{}", "[1,2]", "[a,b]", "{a:1}", "{_target_:os.system}", "[[]]", "[null]", "1ep", "2ba", "0ba", "1,2", "ü"),
    *(
        "${seed}",
        "${nowhere}",
        "${oc.env:HOME}",
        "${oc.env:NOWHERE}",
        "???",
        "[",
        "{",
        "'",
        '"',
        "\\",
        "a b",
        "a=b",
        "=",
        "*",
    ),
    *(
        "paribus.models.convnet.ConvNet",
        "paribus.methods.optimizers.SGD",
        "os.system",
        "paribus",
        "paribus.core",
        ".",
        "..",
    ),
    *NAMES,
]

key = st.one_of(
    st.sampled_from(KEYS),
    st.sampled_from(GROUPS),
    st.builds(
        lambda k, i, c: k[:i] + c + k[i + 1 :], st.sampled_from(KEYS), st.integers(0, 30), st.sampled_from("aé._/@ ")
    ),
    st.text("abct._-@/[]{}'\"\\$:é ", max_size=8),
)
override = st.builds(
    lambda prefix, k, equals, value: f"{prefix}{k}{equals}{value}",
    st.sampled_from(["", "", "", "+", "++", "~"]),
    key,
    st.sampled_from(["=", "=", "=", "=", ""]),
    st.one_of(st.sampled_from(VALUES), st.text(max_size=6)),
)
leaf = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(VALUES),
    st.sampled_from(NAMES),
)
tree = st.recursive(
    leaf,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*GROUPS, "_target_", "defaults", "seed", "lr", "overlays", "hydra"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


def told(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Run a command in a folder; its exit code and what it wrote to standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = dispatch(arguments)
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return code, err.getvalue()


FUZZ = int(os.environ.get("PARIBUS_FUZZ", "100"))  # PARIBUS_FUZZ=2000 for a long campaign
QUICK = settings(max_examples=FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
