"""StarGAN: one generator and one discriminator for all domains, where others train networks for each two.

Choi, Choi, Kim, Ha, Kim & Choo, "StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image
Translation", CVPR 2018, arXiv 1711.09020.

    L_D = −D(x) + D(G(x, c')) + λ_gp (‖∇ D(x̂)‖₂ − 1)² + λ_cls (−log D_cls(c | x))            equations 2, 5, 8
    L_G = −D(G(x, c')) + λ_cls (−log D_cls(c' | G(x, c'))) + λ_rec ‖x − G(G(x, c'), c)‖₁     equations 3, 4, 6, 8

What it changes   which networks there are (model.nets; the discriminator follows). The generator is told the domain c'
                  that it is to translate to, so every image trains it, whatever domain c it is of. Losses and steps are
                  the same for both (methods/translation.py).
Compared with     a generator and a discriminator for each two of k domains (models/domain_nets.py), k(k − 1)/2 of each,
                  narrower, so that all generators together have the parameters of StarGAN's, and all discriminators
                  those of its. They see the same batches in as many steps of both kinds, each learning from the images
                  of its two domains, which all go to the other one.
Hyperparameters   λ_cls = 1, λ_rec = 10, λ_gp = 10; a step of the generator for five of the discriminator; Adam, 1e-4, β
                  0.5 and 0.999, batches of 16, 200,000 steps with a rate that falls to 0 in the second half; 128
                  pixels, 64 channels in the first layer, 6 residual blocks (experiment=celeba_stargan).
As the authors    c' of an image is the domain of another one of the batch, so one in k stays where it is; instance
                  normalisation in the generator, none in the discriminator, which scores patches.
Deviations        an image is of one of k domains, by softmax, where the paper's CelebA has five attributes that may go
                  together. The score that is penalised is the mean over patches, as in the other terms; the authors'
                  code has the gradient of their sum there. No mask of several data sets (section 3.2). The generator's
                  steps are the 1st, 6th, 11th, where theirs are the 5th, 10th, 15th. The loss is of section 3.3.
Cost              parameters and steps are those of what it is compared with; so are products of numbers, nearly, since
                  narrow networks run on whole batches, of which they use a part. Many narrow layers are slower.
"""

from paribus.core.build import schema


@schema
class OneForAll:
    """One network that knows all domains."""

    def __call__(self, domains: int) -> tuple[tuple[int, ...], ...]:
        return (tuple(range(domains)),)
