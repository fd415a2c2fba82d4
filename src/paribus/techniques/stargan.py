"""StarGAN: one generator and one discriminator for all domains, where others train a pair of networks for each two.

Choi, Choi, Kim, Ha, Kim & Choo, "StarGAN: Unified generative adversarial networks for multi-domain image-to-image
translation", CVPR 2018, arXiv 1711.09020.

What it changes: which networks there are. The generator is told the domain that it is to translate to, so that every
image trains it, whatever domain it is of; a network for two domains sees the images of those. Losses and steps are the
same for both (methods/translation.py):

    L_D = −D(x) + D(G(x, c')) + λ_gp (‖∇ D(x̂)‖₂ − 1)² + λ_cls (−log D_cls(c | x))             equations 1, 2, 5
    L_G = −D(G(x, c')) + λ_cls (−log D_cls(c' | G(x, c'))) + λ_rec ‖x − G(G(x, c'), c)‖₁      equations 3, 4, 6

Hyperparameters, with the paper's values: λ_cls 1, λ_rec 10, λ_gp 10; a step of the generator for five of the
discriminator; Adam, 1e-4, β 0.5 and 0.999, batches of 16, 200,000 steps, of which the rate falls to 0 in the second
half; 128 pixels, 64 channels in the first layer, 6 residual blocks.

What it is compared with: k(k − 1)/2 networks for k domains (models/domain_nets.py), narrower, so that there are as many
parameters in all generators together as in StarGAN's, and in all discriminators; trained on the same batches in as many
steps of both, each on the images of its two domains. They run on whole batches, so a step costs about as much.

Deviations from the paper and the authors' code: a domain is one of k, and has a softmax, where the paper's CelebA has
five attributes that may go together. The score is the mean over patches, in the penalty too, where the code has the
gradient of their sum. The loss of several data sets with a mask of domains is not here. The discriminator's first step
comes together with the generator's, not after four others.

Cost: see experiments/stargan_domains. Parameters and steps are the same as those of the networks it replaces.
"""

from paribus.core.build import schema


@schema
class OneForAll:
    """One network that knows all domains."""

    def __call__(self, domains: int) -> tuple[tuple[int, ...], ...]:
        return (tuple(range(domains)),)
