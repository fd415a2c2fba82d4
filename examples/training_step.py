"""CutMix and SGDP in a module with the interface that Lightning trains. It runs without Lightning."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import paribus


class Classifier(nn.Module):  # with Lightning: lightning.LightningModule
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.classes = classes
        self.net = paribus.rexnet(width=0.5, num_classes=classes, strides=32)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets = paribus.cutmix(*batch, num_classes=self.classes, alpha=1.0)
        return F.cross_entropy(self.net(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return paribus.SGDP(self.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)


def main(steps: int = 8) -> list[float]:
    torch.manual_seed(0)
    module, losses = Classifier(), []
    optimizer, batch = module.configure_optimizers(), (torch.randn(16, 3, 32, 32), torch.arange(16) % 10)
    for step in range(steps):  # what Lightning's trainer does
        loss = module.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print("losses:", " ".join(f"{loss:.2f}" for loss in losses))
    return losses


if __name__ == "__main__":
    main()
