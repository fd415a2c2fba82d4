"""Two encoders: lengths of captions, lengths of means, and the same start whatever else is learned."""

import torch

from paribus.core.embeddings import EmbedsBoth
from paribus.core.protocols import Spec
from paribus.core.streams import stream, use_generator
from paribus.models.two_encoders import Learns, TwoEncoders, TwoEncodersNet

SPEC = Spec(24, 3, 12, 10)


def network(learns: Learns = "gaussians") -> TwoEncodersNet:
    with use_generator(stream(0, "model")):
        return TwoEncoders(learns=learns, widths=(8, 16), state=16, dim=8)(SPEC)  # type: ignore[return-value]


def test_what_stands_behind_the_last_word_changes_nothing() -> None:
    net, tokens = network(), torch.tensor([[3, 4, 5, 0, 0], [1, 2, 0, 0, 0]])
    longer = torch.cat((tokens, torch.zeros(2, 3, dtype=torch.int64)), 1)
    assert torch.allclose(net.embed_texts(tokens).mean, net.embed_texts(longer).mean, atol=1e-7)
    other = tokens.clone()
    other[0, 2] = 6
    changed = (net.embed_texts(other).mean - net.embed_texts(tokens).mean).abs().amax(1)
    assert changed[0] > 1e-3, "negative control: the last word counts"
    assert changed[1] == 0


def test_the_order_of_words_counts() -> None:
    first, second = network().embed_texts(torch.tensor([[3, 4, 5], [5, 4, 3]])).mean
    assert (first - second).abs().max() > 1e-3


def test_means_have_length_one_and_empty_batches_pass() -> None:
    net = network()
    assert isinstance(net, EmbedsBoth)
    pairs = net(torch.randn(5, 3, 12, 10, generator=stream(0, "x")), torch.randint(1, 20, (5, 4)))
    for gaussians in (pairs.images, pairs.texts):
        assert torch.allclose(gaussians.mean.norm(dim=1), torch.ones(5))
        assert gaussians.log_sigma.shape == (5, 8)
    empty = net(torch.zeros(0, 3, 12, 10), torch.zeros(0, 4, dtype=torch.int64))
    assert empty.texts.mean.shape == empty.images.mean.shape == (0, 8)


def test_arms_start_from_the_same_encoders_and_have_no_idle_weight() -> None:
    nets = {learns: network(learns).state_dict() for learns in ("means", "temperature", "gaussians")}
    shared = nets["means"]
    for learns in ("temperature", "gaussians"):
        assert all(torch.equal(shared[k], nets[learns][k]) for k in shared)
    assert set(nets["temperature"]) - set(shared) == {"log_temperature"}
    assert {k.split(".")[0] for k in set(nets["gaussians"]) - set(shared)} == {"log_sigmas", "scale", "shift"}
