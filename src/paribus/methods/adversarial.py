"""Two networks against each other: a generator of images, and a discriminator that tells them from real ones.

Goodfellow et al., "Generative adversarial nets", NeurIPS 2014, arXiv 1406.2661. The generator is the recipe's `model`,
and what is averaged, evaluated and exported. Each step is one of the discriminator; in each k-th the generator has one
as well. What a step draws is keyed by the place in the global batch, so that one process and several see the same
noise.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from paribus.core.batch import Batch
from paribus.core.build import matches_signature, schema
from paribus.core.errors import ConfigError
from paribus.core.generation import (
    AdversarialLoss,
    Discriminates,
    DiscriminatorPenalty,
    ExtendsDiscriminator,
    FitsNetworks,
    Generates,
    JudgedBatch,
)
from paribus.core.mixing import to_soft_targets
from paribus.core.pixels import to_inputs
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, ModelFactory, ParameterGroup, Slots
from paribus.core.streams import normal
from paribus.methods.adversarial_losses import NonSaturating, Wasserstein
from paribus.methods.evaluated import Evaluated
from paribus.methods.objectives import CrossEntropy
from paribus.methods.real_images import refuse_transforms
from paribus.methods.trained import Trained, make_trained

Metrics = dict[str, Tensor]
Drawn = Mapping[str, Mapping[str, Any]]


class DiscriminatorLoss(nn.Module):
    """The discriminator as a step calls it: its whole loss, penalties too, in one forward, so that several processes
    exchange its gradients once."""

    def __init__(
        self,
        network: nn.Module,
        loss: AdversarialLoss,
        penalties: Mapping[str, DiscriminatorPenalty],
        gathered: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.network = network
        self._loss, self._penalties, self._gathered = loss, dict(penalties), gathered
        self._differentiates = any(penalty.differentiates for penalty in penalties.values())
        self.compiles = not self._differentiates  # a compiled graph cannot be differentiated twice

    @cached()  # spectral normalisation moves on once a step, and all that is judged in it is by the same weights
    def forward(
        self,
        real: Tensor,
        fake: Tensor,
        classes: Tensor | None,
        generated: tuple[Tensor, ...],
        drawn: Drawn,
    ) -> tuple[Tensor, Metrics]:
        """The loss, a scalar, and metrics. real, fake: (n, c, h, w), without gradients. drawn: by penalty."""
        if self._differentiates:
            real = real.detach().requires_grad_()
        of_real, of_fake = self.network(real, classes), self.network(fake, classes)
        loss = self._loss.discriminator(of_real.scores, of_fake.scores)
        metrics = {
            "train/scores_real": of_real.scores.mean(),
            "train/scores_fake": of_fake.scores.mean(),
        }
        judged = JudgedBatch(self.network, real, fake, classes, of_real, of_fake, generated, self._gathered)
        for name, penalty in self._penalties.items():
            term = penalty(judged, drawn[name])
            if not isinstance(term, Tensor) or term.ndim:
                found = f"a tensor of shape {tuple(term.shape)}" if isinstance(term, Tensor) else type(term).__name__
                raise ConfigError(f"method.penalties.{name}: it gave {found}; should be a tensor without dimensions")
            loss, metrics[f"train/{name}"] = loss + term, term
        return loss, metrics


@dataclass(frozen=True)
class GeneratorSampler:
    """A generator as one that samples, for evaluators. mean, std: inputs are normalised with them."""

    model: nn.Module
    latent: int
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device
    dtype: torch.dtype

    @property
    def conditional(self) -> bool:
        return self.classes > 0

    @torch.no_grad()
    def sample(self, ids: Tensor, seed: int, classes: Tensor | None = None) -> Tensor:
        """As `core.capabilities.Samples`. Raises ValueError where classes are asked of a generator without them."""
        if classes is not None and not self.conditional:
            raise ValueError("this generator does not know classes; leave them out")
        ids = ids.to(self.device)
        weights = None
        if self.conditional:
            wanted = ids % self.classes if classes is None else classes.to(self.device)
            weights = to_soft_targets(wanted, self.classes, self.dtype)
        noise = normal(seed, "samples.noise", 0, ids, self.latent).to(self.dtype)
        return to_inputs((self.model(noise, weights).images + 1) / 2, self.mean, self.std)


class AdversarialTraining:
    """Parts "" (the generator) and "discriminator"; see the top of the file."""

    def __init__(self, slots: Slots, workshop: BuildContext, settings: "Adversarial") -> None:
        self._slots, self._settings, self._workshop = slots, settings, workshop
        self._penalties = {name: p for name, p in settings.penalties.items() if p is not None}
        self._generator = make_trained(slots, workshop)
        self.model, self.optimizer = _as_generator(self._generator.network), self._generator.optimizer
        discriminator = settings.discriminator
        for penalty in self._penalties.values():
            if isinstance(penalty, ExtendsDiscriminator):
                discriminator = penalty.extend_discriminator(discriminator, self.model)
        self._discriminator = make_trained(
            slots,
            workshop,
            "discriminator",
            discriminator,
            view=lambda network: DiscriminatorLoss(network, settings.loss, self._penalties, workshop.gathered),
        )
        self._check(workshop)
        self._evaluated = Evaluated(self.model, slots.ema)

    def _check(self, workshop: BuildContext) -> None:
        generator, discriminator = self.model, self._discriminator.network
        if not isinstance(discriminator, Discriminates):
            raise ConfigError(
                f"method.discriminator: found {type(discriminator).__name__}, which is no discriminator; use that of "
                "models/dcgan.py or models/residual_gan.py, or see core/generation.py for one of your own"
            )
        if generator.classes != discriminator.classes:
            raise ConfigError(
                f"model, method.discriminator: one of them knows classes and the other does not (found "
                f"{generator.classes} and {discriminator.classes}); set `conditional` of both alike"
            )
        if not workshop.mean:
            raise ConfigError("data: method=adversarial needs to know the mean and std that images are normalised with")
        for name, penalty in self._penalties.items():
            if isinstance(penalty, FitsNetworks):
                penalty.check_networks(generator, discriminator, f"method.penalties.{name}")

    def train_step(self, batch: Batch, at: Progress) -> dict[str, Tensor | float]:
        """A step of the discriminator and, in each k-th, one of the generator. Nothing here waits for the device."""
        slots, factor = self._slots, self._slots.schedule(at)
        self._generator.prepare_step(factor)
        self._discriminator.prepare_step(factor * self._settings.discriminator_lr)
        classes = None
        if self.model.classes:
            classes = to_soft_targets(batch.targets, self.model.classes, batch.inputs.dtype)
        metrics = self._discriminator.step(slots.update, lambda whole: self._judge(whole, classes, at), batch)
        if at.step % self._settings.generator_every == 0:
            found = self._generator.step(slots.update, lambda whole: self._deceive(whole, classes, at), batch)
            # a window's mean is over all of its steps, so those of the generator count for the others
            metrics["train/loss_generator"] = found["train/loss"] * self._settings.generator_every
            self._evaluated.update(at.step)
        return {**metrics, "lr": self._generator.lrs[0] * factor}

    def _draw_noise(self, name: str, batch: Batch, at: Progress) -> Tensor:
        noise = normal(at.seed, f"adversarial.{name}", at.step, batch.positions, self.model.latent)
        return noise.to(batch.inputs.dtype)

    def _to_inputs(self, images: Tensor) -> Tensor:
        return to_inputs((images + 1) / 2, self._workshop.mean, self._workshop.std)

    def _judge(self, batch: Batch, classes: Tensor | None, at: Progress) -> tuple[Tensor, Metrics]:
        """The discriminator's loss on a batch of real images and as many generated ones of the same classes."""
        with torch.no_grad():
            images, maps = self.model(self._draw_noise("discriminator", batch, at), classes)
        drawn = {name: penalty.draw(batch, at) for name, penalty in self._penalties.items()}
        return self._discriminator.in_step(batch.inputs, self._to_inputs(images), classes, maps, drawn)

    def _deceive(self, batch: Batch, classes: Tensor | None, at: Progress) -> tuple[Tensor, Metrics]:
        """The generator's loss, under a discriminator whose weights get no gradient."""
        images, _ = self._generator.in_step(self._draw_noise("generator", batch, at), classes)
        network = self._discriminator.network
        fixed = {name: weight.detach() for name, weight in network.named_parameters()}
        judgement = torch.func.functional_call(network, fixed, (self._to_inputs(images), classes))
        return self._settings.loss.generator(judgement.scores), {}

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
        """The generator, or the average of its weights."""
        return self._evaluated.model

    @property
    def without_ema(self) -> GeneratorSampler | None:
        """What samples with the latest weights, where evaluation uses averaged ones; else None."""
        plain = self._evaluated.without_ema
        return None if plain is None else self._sampler(plain.model)

    @property
    def conditional(self) -> bool:
        return self.model.classes > 0

    def sample(self, ids: Tensor, seed: int, classes: Tensor | None = None) -> Tensor:
        """(n, c, h, w) normalised inputs of the evaluated generator; see `core.capabilities.Samples`."""
        return self._sampler(self.eval_model).sample(ids, seed, classes)

    def _sampler(self, network: nn.Module) -> GeneratorSampler:
        model, workshop = self.model, self._workshop
        place = workshop.place
        return GeneratorSampler(
            network, model.latent, model.classes, workshop.mean, workshop.std, place.device, place.dtype
        )

    def prepare_eval(self) -> None:
        self._evaluated.prepare(self._workshop.sync, (self._discriminator.network,))

    def state_dict(self) -> dict[str, Any]:
        discriminator = {"discriminator": self._discriminator.state_dict()}
        return {**self._generator.state_dict(), **discriminator, **self._evaluated.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.load_state_dict(state)
        self._discriminator.load_state_dict(state["discriminator"])
        self._evaluated.load_state_dict(state)


def _as_generator(network: nn.Module) -> Any:
    if not isinstance(network, Generates):
        raise ConfigError(
            f"model: found {type(network).__name__}, which generates no images; method=adversarial takes model=dcgan, "
            "model=residual_gan, or one of your own as in core/generation.py"
        )
    return network


@schema
class Adversarial:
    """discriminator: makes it. discriminator_lr: its learning rate, times the recipe's. loss: of both networks.
    penalties: of the discriminator, by name; null leaves one out. generator_every: k, steps of the discriminator for
    one of the generator's.

    The generator is the recipe's `model`; its `objective` and `transforms` have no place here.
    """

    discriminator: Annotated[ModelFactory, matches_signature(ModelFactory)]
    discriminator_lr: Annotated[float, Field(gt=0)] = 1.0
    loss: AdversarialLoss = NonSaturating()
    penalties: Mapping[str, DiscriminatorPenalty | None] = Field(default_factory=dict)
    generator_every: Annotated[int, Field(ge=1)] = 1

    @property
    def couples_samples(self) -> bool:
        return True

    def __call__(self, slots: Slots, workshop: BuildContext) -> AdversarialTraining:
        """Raises ConfigError if the networks do not fit each other, or for choices that would have no effect, or
        another than their names say."""
        if not isinstance(slots.objective, CrossEntropy):  # which is there unless something else is asked for
            raise ConfigError(
                f"objective: found {type(slots.objective).__name__}; method=adversarial has losses of its own "
                "(method.loss), so nothing would follow it"
            )
        refuse_transforms(slots, "adversarial")
        if isinstance(self.loss, Wasserstein) and not any(self.penalties.values()):
            raise ConfigError(
                "method.penalties: found none; Wasserstein's discriminator has to be held to a steepness, as by "
                "method.penalties.gradient_penalty (docs/adversarial.md)"
            )
        return AdversarialTraining(slots, workshop, self)
