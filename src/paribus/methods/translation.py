"""Translation of images between domains, without pairs: a generator, and a discriminator that knows domains.

Choi et al., "StarGAN", CVPR 2018, arXiv 1711.09020, whose losses and steps these are (translation_losses.py). The
domains are the data's classes. Whether one network learns all of them, or one each two, is the generator's to say
(model.nets); the discriminator is divided alike. Everything else is the same for both, so that they can be compared.

Each step is one of the discriminator; in each k-th the generator has one as well. An image's target is the domain of
another image of the batch, whichever process has it; in a network for two domains it is the other one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.mixing import to_soft_targets
from paribus.core.pixels import to_inputs, to_pixels
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, ParameterGroup, Slots
from paribus.core.streams import uniform
from paribus.methods.evaluated import Evaluated
from paribus.methods.objectives import CrossEntropy
from paribus.methods.real_images import refuse_transforms
from paribus.methods.trained import Trained, make_trained
from paribus.methods.translation_losses import (
    DomainWeights,
    deceive_loss,
    domain_loss,
    gradient_penalty,
    permute,
    reconstruction_loss,
    source_loss,
    weigh,
)
from paribus.models.stargan import StarGANDiscriminator, StarGANGeneratorNet

Metrics = dict[str, Tensor]


class DiscriminatorStep(nn.Module):
    """The discriminator as a step calls it: its whole loss, the penalty too, in one forward, so that several processes
    exchange its gradients once."""

    compiles = False  # a compiled graph cannot be differentiated twice (recipe/build.py)

    def __init__(self, network: nn.Module, settings: "Translation") -> None:
        super().__init__()
        self.network, self._settings = network, settings

    def forward(self, real: Tensor, fake: Tensor, weights: DomainWeights, share: Tensor) -> tuple[Tensor, Metrics]:
        """The loss, a scalar, and metrics. real: (n, c, h, w). fake: (n, nets, c, h, w), without gradients."""
        settings = self._settings
        of_real, of_fake = self.network(real), self.network(fake)
        source = source_loss(of_real.scores, of_fake.scores, weights.of)
        domain = domain_loss(of_real.logits, weights.domains)
        penalty = gradient_penalty(lambda x: self.network(x).scores, real, fake, share, weights.of)
        loss = source + settings.penalty_weight * penalty + settings.domain_weight * domain
        return loss, {"train/source": source, "train/domain": domain, "train/gradient_penalty": penalty}


class GeneratorStep(nn.Module):
    """The generator as a step calls it: there and back in one forward."""

    def __init__(self, network: StarGANGeneratorNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, targets: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Both (n, nets, c, h, w)."""
        there = self.network.translate_all(images, targets)
        return there, self.network.translate_all(there, sources)


@dataclass(frozen=True)
class DomainTranslator:
    """A generator as one that translates, for evaluators. mean, std: inputs are normalised with them."""

    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @torch.no_grad()
    def translate(self, inputs: Tensor, domains: Tensor, sources: Tensor | None = None) -> Tensor:
        """As `core.capabilities.Translates`."""
        images = self.model(2 * to_pixels(inputs, self.mean, self.std) - 1, domains, sources)
        return to_inputs((images + 1) / 2, self.mean, self.std)


class TranslationTraining:
    """Parts "" (the generator) and "discriminator"; see the top of the file."""

    def __init__(self, slots: Slots, workshop: BuildContext, settings: "Translation") -> None:
        self._slots, self._settings, self._workshop = slots, settings, workshop
        self._generator = make_trained(slots, workshop, view=as_generator)
        self.model, self.optimizer = cast(StarGANGeneratorNet, self._generator.network), self._generator.optimizer
        self.division = self.model.division
        self._discriminator = make_trained(
            slots,
            workshop,
            "discriminator",
            settings.discriminator.divided(self.division),
            view=lambda network: DiscriminatorStep(network, settings),
        )
        self._evaluated = Evaluated(self.model, slots.ema)

    def train_step(self, batch: Batch, at: Progress) -> dict[str, Tensor | float]:
        """A step of the discriminator and, in each k-th, one of the generator. Nothing here waits for the device."""
        slots, settings, factor = self._slots, self._settings, self._slots.schedule(at)
        self._generator.prepare_step(factor)
        self._discriminator.prepare_step(factor * settings.discriminator_lr)
        sources, targets = self._choose_domains(batch, at)
        metrics = self._discriminator.step(slots.update, lambda b: self._judge(b, sources, targets, at), batch)
        if at.step % settings.generator_every == 0:
            found = self._generator.step(slots.update, lambda b: self._deceive(b, sources, targets), batch)
            names = {name: "train/loss_generator" if name == "train/loss" else name for name in found}
            # a window's mean is over all of its steps, so those of the generator count for the others
            metrics |= {names[name]: value * settings.generator_every for name, value in found.items()}
            self._evaluated.update(at.step)
        return {**metrics, "lr": self._generator.lrs[0] * factor}

    def _choose_domains(self, batch: Batch, at: Progress) -> tuple[Tensor, Tensor]:
        """(n, nets, known) each: how far each image is of a network's domains, and where it is to go."""
        weights = to_soft_targets(batch.targets, batch.classes, batch.inputs.dtype)
        sources = self.division.restrict(weights)
        if len(self.division.members) > 1:
            return sources, sources.flip(2)
        places = torch.arange(batch.size, device=batch.positions.device)
        order = permute(batch.size, uniform(at.seed, "translation.targets", at.step, places, 1)[:, 0])
        return sources, self.division.restrict(self._workshop.gathered(weights)[order[batch.positions]])

    def _to_images(self, batch: Batch) -> Tensor:
        return 2 * to_pixels(batch.inputs, self._workshop.mean, self._workshop.std) - 1

    def _judge(self, batch: Batch, sources: Tensor, targets: Tensor, at: Progress) -> tuple[Tensor, Metrics]:
        images = self._to_images(batch)
        with torch.no_grad():
            fake = self.model.translate_all(images, targets)
        share = uniform(at.seed, "translation.share", at.step, batch.positions, 1)[:, 0]
        weights = weigh(sources, batch.size, self._workshop.total)
        return self._discriminator.in_step(images, fake, weights, share)

    def _deceive(self, batch: Batch, sources: Tensor, targets: Tensor) -> tuple[Tensor, Metrics]:
        """The generator's loss, under a discriminator whose weights get no gradient."""
        images, settings = self._to_images(batch), self._settings
        there, back = self._generator.in_step(images, targets, sources)
        network = self._discriminator.network
        fixed = {name: weight.detach() for name, weight in network.named_parameters()}
        judged = torch.func.functional_call(network, fixed, (there,))
        of, domains = weigh(targets, batch.size, self._workshop.total)
        domain = domain_loss(judged.logits, domains)
        reconstruction = reconstruction_loss(images, back, of)
        loss = deceive_loss(judged.scores, of)
        loss = loss + settings.domain_weight * domain + settings.reconstruction_weight * reconstruction
        return loss, {"train/domain_generator": domain, "train/reconstruction": reconstruction}

    def parts(self) -> dict[str, Trained]:
        return {"": self._generator, "discriminator": self._discriminator}

    @property
    def groups(self) -> list[ParameterGroup]:
        return list(self._generator.groups)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Of both networks."""
        yield from self.model.parameters()
        yield from self._discriminator.network.parameters()

    @property
    def eval_model(self) -> nn.Module:
        """The generator, or the average of its weights. Its images are −1 to 1."""
        return self._evaluated.model

    @property
    def without_ema(self) -> DomainTranslator | None:
        """What translates with the latest weights, where evaluation uses averaged ones; else None."""
        plain = self._evaluated.without_ema
        return None if plain is None else self._translator(plain.model)

    def translate(self, inputs: Tensor, domains: Tensor, sources: Tensor | None = None) -> Tensor:
        """(n, c, h, w) normalised inputs in other domains; see `core.capabilities.Translates`."""
        return self._translator(self.eval_model).translate(inputs, domains, sources)

    def _translator(self, network: nn.Module) -> DomainTranslator:
        return DomainTranslator(network, self._workshop.mean, self._workshop.std)

    def prepare_eval(self) -> None:
        self._evaluated.prepare(self._workshop.sync, (self._discriminator.network,))

    def state_dict(self) -> dict[str, Any]:
        discriminator = {"discriminator": self._discriminator.state_dict()}
        return {**self._generator.state_dict(), **discriminator, **self._evaluated.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.load_state_dict(state)
        self._discriminator.load_state_dict(state["discriminator"])
        self._evaluated.load_state_dict(state)


def as_generator(network: nn.Module) -> nn.Module:
    """What a step calls of it. Raises ConfigError for a network of another kind."""
    if not isinstance(network, StarGANGeneratorNet):
        raise ConfigError(
            f"model: method=translation needs a generator that is told a domain, as model=stargan; found "
            f"{type(network).__name__}"
        )
    return GeneratorStep(network)


@schema
class Translation:
    """discriminator: makes it. discriminator_lr: its learning rate, times the recipe's. generator_every: steps of the
    discriminator for one of the generator's. domain_weight: λ_cls, of the domain's cross entropy in both losses.
    reconstruction_weight: λ_rec, of the image that is translated back. penalty_weight: λ_gp, of the discriminator's
    steepness.

    The generator is the recipe's `model`; its `objective` and `transforms` have no place here.
    """

    discriminator: StarGANDiscriminator = StarGANDiscriminator()
    discriminator_lr: Annotated[float, Field(gt=0)] = 1.0
    generator_every: Annotated[int, Field(ge=1)] = 5
    domain_weight: Annotated[float, Field(ge=0)] = 1.0
    reconstruction_weight: Annotated[float, Field(ge=0)] = 10.0
    penalty_weight: Annotated[float, Field(ge=0)] = 10.0

    @property
    def couples_samples(self) -> bool:
        return True

    def __call__(self, slots: Slots, workshop: BuildContext) -> TranslationTraining:
        """Raises ConfigError if `model` is no generator, or another objective was chosen."""
        if not isinstance(slots.objective, CrossEntropy):  # which is there unless something else is asked for
            raise ConfigError(
                f"objective: found {type(slots.objective).__name__}; method=translation has losses of its own, so "
                "nothing would follow it"
            )
        refuse_transforms(slots, "translation")
        if not workshop.mean:
            raise ConfigError("data: method=translation needs to know the mean and std that images are normalised with")
        return TranslationTraining(slots, workshop, self)
