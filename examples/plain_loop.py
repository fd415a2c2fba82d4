"""CutMix and AdamP in a plain PyTorch loop, on the digits that come with scikit-learn. Seconds on a CPU."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import paribus


def main(epochs: int = 12) -> float:
    torch.manual_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.images[:, None] / 8 - 1, dtype=torch.float32), torch.tensor(digits.target)
    order = torch.randperm(len(images))
    train, test = order[:1437], order[1437:]
    features = [nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    features += [nn.Conv2d(32, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    model = nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    optimizer = paribus.AdamP(model.parameters(), lr=3e-3, weight_decay=0.01)
    for _ in range(epochs):
        for batch in train[torch.randperm(len(train))].split(64):
            inputs, targets = paribus.cutmix(images[batch], labels[batch], num_classes=10, prob=0.5)
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()  # targets are (n, 10) weights
            optimizer.step()
    accuracy = (model.eval()(images[test]).argmax(1) == labels[test]).float().mean().item()
    print(f"accuracy on {len(test)} digits: {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
