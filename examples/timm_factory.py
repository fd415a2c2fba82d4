"""AdamP in timm: from its optimizer factory, and on its parameter groups.

timm's own "adamp" sets wd_ratio=0.01 and nesterov=True; the authors' values are 0.1 and False. The factory takes a
name only, and drops what is before an underscore in it, so register one without.
"""

import timm
import torch
from timm.optim import OptimInfo, create_optimizer_v2, param_groups_weight_decay
from timm.optim._optim_factory import default_registry  # timm does not export it

import paribus


def main() -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    model = timm.create_model("resnet18", num_classes=10)
    authors = {"wd_ratio": 0.1, "nesterov": False}
    default_registry.register(OptimInfo("paribusadamp", paribus.AdamP, has_betas=True, defaults=authors))
    by_name = create_optimizer_v2(model, "paribusadamp", lr=1e-3, weight_decay=0.05)
    directly = paribus.AdamP(param_groups_weight_decay(model, weight_decay=0.05), lr=1e-3)
    for optimizer in (by_name, directly):
        sizes = [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
        print(type(optimizer).__name__, "tensors and their weight decay:", sizes)
    model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    by_name.step()
    return by_name, directly


if __name__ == "__main__":
    main()
