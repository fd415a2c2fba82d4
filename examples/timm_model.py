"""A paribus network from timm's factory. paribus's names have to be registered with timm first."""

import timm
import torch

import paribus


def main() -> torch.Size:
    names = paribus.register_with_timm()
    print("timm now makes", ", ".join(names))
    model = timm.create_model("paribus_pit_ti", img_size=64, num_classes=10)
    logits = model(torch.randn(2, 3, 64, 64))
    print("logits", tuple(logits.shape))
    return logits.shape


if __name__ == "__main__":
    main()
