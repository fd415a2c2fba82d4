"""`paribus export`: a trained network as safetensors and a small JSON, and for other programs as .pt2 and ONNX."""

import argparse
import json
import shlex

from paribus.cli.arguments.trained import EXPORT_KEYS, split_run
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.interop.graphs import check_onnx, write_onnx, write_pt2
from paribus.models.exported import load
from paribus.runs.export import export_run
from paribus.runs.saved_run import load_saved_run


def run(args: argparse.Namespace) -> int:
    where, overrides = split_run(args, "run folder, checkpoint or export")
    if args.onnx:
        check_onnx()
    found = load_saved_run(where, overrides, EXPORT_KEYS)
    target = args.out or found.export or found.folder / "model.safetensors"
    if target.suffix != ".safetensors":
        raise ConfigError(f"--out: found {target}; the name should end in .safetensors")
    if found.export is None:
        for file in export_run(found, target):
            print(file)
    elif args.out or not (args.onnx or args.pt2):
        raise ConfigError(f"{found.export} is an export already; --onnx and --pt2 write the same network beside it")
    if args.onnx or args.pt2:
        network = load(target, found.recipe.packages)
        for wanted, write, ending in ((args.pt2, write_pt2, ".pt2"), (args.onnx, write_onnx, ".onnx")):
            if wanted:
                print(write(network, target.with_suffix(ending)), flush=True)
    packages = f", packages={json.dumps(found.recipe.packages)}" if found.recipe.packages else ""
    code = f"import paribus; model = paribus.load({json.dumps(str(target), ensure_ascii=False)}{packages})"
    print(f"\nread back:  python -c {shlex.quote(code)}")
    return OK
