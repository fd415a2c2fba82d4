"""The losses of adversarial training: what the discriminator and the generator minimise, from scores of real and
generated images."""

import torch.nn.functional as F
from torch import Tensor

from paribus.core.build import schema


@schema
class NonSaturating:
    """Goodfellow et al. 2014, arXiv 1406.2661: D minimises −log σ(D(x)) − log(1 − σ(D(G(z)))), G −log σ(D(G(z)))."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean()


@schema
class Hinge:
    """Lim & Ye 2017, arXiv 1705.02894: D minimises max(0, 1 − D(x)) + max(0, 1 + D(G(z))), G −D(G(z))."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()


@schema
class Wasserstein:
    """Arjovsky et al. 2017, arXiv 1701.07875: D minimises −D(x) + D(G(z)), G −D(G(z)). D has to be kept smooth, as by
    the penalty GradientPenalty."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()
