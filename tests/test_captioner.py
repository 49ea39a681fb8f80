"""The attentive captioner: its size, its gradients, its objective, and what its encoder keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_captioner import HIDDEN, WORDS, build, decoder_of, features_of, logits_of, tokens_of
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.captioning.vocabulary import PAD, Vocabulary
from harness.errors import BenchError
from harness.tasks import captioning
from harness.types import Facts, Preparation
from plugins.captioning import attention
from plugins.captioning.attention import Attention, Hard, Shape
from plugins.captioning.decoder import Decoder
from plugins.captioning.encoder import Encoder, without_head
from plugins.captioning.network import AttentiveCaptioner, Weights, doubly_stochastic
from plugins.captioning.schedules import Schedule
from plugins.models.captioner import LSTMCaptioner
from plugins.networks import Normalised

torch.set_num_threads(1)

KINDS = ["additive", "scaled_dot", "hard", "none"]
FACTS = Facts((3, 16, 16), (), {"train": 1, "validation": 1, "test": 1}, "", "", "", task="captioning")


def pixels(n: int, seed: int = 0, side: int = 16) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def trainable(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


# --- size


@pytest.mark.slow
def test_the_published_size_comes_out() -> None:
    facts = FACTS._replace(shape=(3, 64, 64))
    captioner = LSTMCaptioner(encoder="torchvision:efficientnet_b7", frozen=True, vocabulary_size=3992)
    module = captioner.build(Preparation(facts, (0.5,) * 3, (0.2,) * 3))
    assert trainable(module) == 14_377_625
    assert sum(p.numel() for p in module.parameters()) == 78_164_585
    assert module.grid == (2, 2)


def test_the_decoder_of_the_published_size() -> None:
    kind = attention.find("additive")(Shape(2560, 512, 256))
    assert trainable(Decoder(3992, 2560, kind, embed=256, hidden=512, dropout=0.5)) == 14_377_625


# --- decoder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("kept", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_what_is_computed_outside_the_loop_changes_nothing(kind: str, kept: torch.dtype, tolerance: float) -> None:
    decoder, features, tokens = decoder_of(kind, spread=1.5).to(kept), features_of(3).to(kept), tokens_of([2, 5, 3])
    decoded = decoder(features, tokens[:, :-1])
    asked = (tokens[:, 1:] != PAD)[..., None]
    for found, plain in zip(decoded, logits_of(decoder, features, tokens), strict=False):
        assert (found - plain * asked).abs().max() < tolerance  # zero after <end>


@pytest.mark.parametrize("kind", KINDS)
def test_its_gradients_are_those_of_the_plain_one(kind: str) -> None:
    decoder, tokens = decoder_of(kind, spread=1.5).double(), tokens_of([2, 4])
    features = features_of(2).double().requires_grad_()
    weights = [features, *decoder.parameters()]
    found = torch.autograd.grad(
        captioning.loss(decoder(features, tokens[:, :-1]).logits, tokens).sum(), weights, allow_unused=True
    )
    plain = torch.autograd.grad(
        captioning.loss(logits_of(decoder, features, tokens)[0], tokens).sum(), weights, allow_unused=True
    )
    for one, other in zip(found, plain, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("kind", ["additive", "scaled_dot", "none"])
def test_its_gradients_are_the_same_in_training(kind: str) -> None:
    decoder, features, tokens = decoder_of(kind, spread=1.5).double(), features_of(3).double(), tokens_of([2, 5, 3])
    features.requires_grad_()
    decoder.dropout.p = 0.0
    found = []
    for training in (True, False):
        loss = captioning.loss(decoder.train(training)(features, tokens[:, :-1]).logits, tokens).sum()
        found.append(torch.autograd.grad(loss, [features, *decoder.parameters()], allow_unused=True))
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_attention_sums_to_one(kind: str, training: bool) -> None:
    decoder = decoder_of(kind).train(training)
    looks = decoder(features_of(4), tokens_of([3, 5, 1, 2])[:, :-1]).attention
    assert looks.shape == (4, 6, 6)
    assert looks.min() >= 0
    asked = torch.arange(6) < torch.tensor([3, 5, 1, 2])[:, None] + 1  # of each word and of <end>; nothing after it
    assert torch.allclose(looks.sum(2), asked.float())


@pytest.mark.parametrize("kind", KINDS)
def test_shown_the_truth_always_the_mixed_form_is_teacher_forcing(kind: str) -> None:
    decoder, features, tokens = decoder_of(kind), features_of(3), tokens_of([2, 5, 3])
    forced, mixed = (decoder(features, tokens[:, :-1], None, teacher) for teacher in (1.0, 1.0 - 1e-9))
    assert torch.allclose(forced.logits, mixed.logits, atol=1e-5)
    assert torch.allclose(forced.attention, mixed.attention, atol=1e-6)


def test_shown_its_own_words_it_forgets_the_truth() -> None:
    decoder, features = decoder_of(), features_of(64)
    one, other = tokens_of([5] * 64, seed=1), tokens_of([5] * 64, seed=2)
    logits = []
    for tokens in (one, other):
        torch.manual_seed(0)
        logits.append(decoder(features, tokens[:, :-1], None, 0.0).logits)
    assert logits[0].equal(logits[1])
    forced = decoder(features, one[:, :-1]).logits
    half = decoder(features, one[:, :-1], None, 0.5).logits
    same = torch.isclose(half, forced, atol=1e-4).all(2).float().mean(0)  # share of images, at each word
    assert same[0] == 1.0
    assert 0.4 < same[1] < 0.8
    assert same[5] < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_captions_of_one_image_are_as_if_each_had_its_own(kind: str) -> None:
    decoder, features, tokens = decoder_of(kind), features_of(3), tokens_of([2, 5, 3, 4, 1])
    of = torch.tensor([2, 0, 0, 1, 2])
    found, apart = decoder(features, tokens[:, :-1], of), decoder(features[of], tokens[:, :-1])
    assert torch.allclose(found.logits, apart.logits, atol=1e-5)
    assert torch.allclose(found.attention, apart.attention, atol=1e-6)


# --- objective


@pytest.mark.parametrize("kind", ["additive", "none"])
@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), more=st.integers(1, 5), seed=st.integers(0, 99))
def test_padding_counts_nowhere(kind: str, lengths: list[int], more: int, seed: int) -> None:
    module = _on_features(decoder_of(kind, seed), Weights(doubly_stochastic=0.7)).double()
    features, tokens = features_of(len(lengths), seed).double(), tokens_of(lengths, seed)
    padded = F.pad(tokens, (0, more), value=PAD)
    loss = module.objective(features, tokens, 0.0)[0]
    assert torch.allclose(loss, module.objective(features, padded, 0.0)[0], atol=1e-12)
    alone = [
        module.objective(features[n, None], tokens[n, None, : lengths[n] + 2], 0.0)[0] for n in range(len(lengths))
    ]
    assert torch.allclose(loss, torch.cat(alone), atol=1e-12)


def test_a_fresh_loss_is_that_of_guessing() -> None:
    module = build(doubly_stochastic=0.0)
    loss, logits = module.objective(pixels(16), tokens_of([4] * 16), 0.0)
    assert abs(loss.mean().item() - math.log(WORDS)) < 0.3
    assert logits.shape == (16, 5, WORDS)


def test_seeing_every_location_once_is_doubly_stochastic() -> None:
    words = torch.tensor([[1.0, 1.0, 0.0]])
    once = torch.eye(2)[None].repeat(1, 2, 1)[:, :3]  # the third look is one at padding
    assert doubly_stochastic(once, words).tolist() == [0.0]
    twice = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    assert doubly_stochastic(twice, words).tolist() == [2.0]  # (1 - 2)^2 + (1 - 0)^2
    module = _on_features(decoder_of(), Weights(doubly_stochastic=0.5))
    features, tokens = features_of(2), tokens_of([3, 3])
    loss, logits = module.objective(features, tokens, 0.0)
    penalty = doubly_stochastic(module.attention(features, tokens), torch.ones(2, 4))
    assert torch.allclose(loss, captioning.loss(logits, tokens) + 0.5 * penalty)


@pytest.mark.parametrize("kind", ["none", "linear", "exponential", "inverse_sigmoid"])
def test_schedules_fall_from_one_to_their_end(kind: str) -> None:
    schedule = Schedule(kind, 0.75)
    values = [schedule.teacher(step / 10) for step in range(11)]
    assert values[0] == pytest.approx(1.0, abs=1e-12)
    assert values[-1] == pytest.approx(1.0 if kind == "none" else 0.75, abs=1e-12)
    assert values == sorted(values, reverse=True)
    if kind == "linear":
        assert schedule.teacher(0.5) == pytest.approx(0.875)


def test_words_are_sampled_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[float] = []
    mixed = Decoder._mixed

    def noted(self: Decoder, memory: Any, words: Any, teacher: float) -> Any:
        shown.append(teacher)
        return mixed(self, memory, words, teacher)

    monkeypatch.setattr(Decoder, "_mixed", noted)
    module = build(scheduled_sampling="linear", teacher_end=0.5)
    x, tokens = pixels(2), tokens_of([2, 3])
    module.objective(x, tokens, 1.0)
    module.train().objective(x, tokens, 0.0)
    module.objective(x, tokens, 0.5)[0].sum().backward()
    assert shown == [0.75]


# --- hard attention


def test_reinforce_has_the_gradient_of_the_expected_loss() -> None:
    torch.manual_seed(0)
    kind = Hard(Shape(4, HIDDEN, 3, soft_share=0.0))
    decoder = Decoder(6, 4, kind, embed=3, hidden=HIDDEN, dropout=0.0)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.mul_(2.0)
    module = _on_features(decoder, Weights(entropy=0.0)).double().train()
    module.baseline.fill_(1.3)  # any constant leaves the mean gradient as it is
    features, tokens = torch.randn(1, 3, 4).double(), torch.tensor([[1, 2]])  # one word, <end>, and three locations
    weights = list(kind.parameters())

    exact = torch.autograd.grad(_expected(decoder, features, tokens), weights, allow_unused=True)
    many = 4000
    samples = []
    for _ in range(20):
        loss = module.objective(features.expand(many, -1, -1), tokens.expand(many, -1), 0.0)[0]
        samples.append(_flat(torch.autograd.grad(loss.mean(), weights, allow_unused=True), weights))
        module.baseline.fill_(1.3)
    found = torch.stack(samples)
    error = found.std(0) / len(found) ** 0.5
    difference = (found.mean(0) - _flat(exact, weights)).abs()
    assert _flat(exact, weights).abs().max() > 20 * error.max()  # or else nothing is told
    assert (difference <= 4.5 * error + 1e-9).all()


def _expected(decoder: Decoder, features: Tensor, tokens: Tensor) -> Tensor:
    """The loss of one word, by enumeration of the locations."""
    memory = decoder.begin(features)
    kind = decoder.attention
    probability = kind.scores(memory.view.projected, memory.hidden).softmax(-1).flatten()
    y, hidden = decoder.embedding(tokens[:, :1]), memory.hidden
    losses = []
    for location in range(features.shape[1]):
        z = torch.sigmoid(decoder.gate(hidden)) * features[:, location, None]
        gates = decoder.of_word(y) + decoder.of_hidden(hidden) + decoder.of_context(z)
        i, f, g, o = gates.chunk(4, -1)
        h = o.sigmoid() * torch.tanh(f.sigmoid() * memory.cell + i.sigmoid() * g.tanh())
        logits = decoder.out(y + decoder.hidden_out(h) + decoder.context_out(z))
        losses.append(F.cross_entropy(logits.flatten(0, 1), tokens[0, 1:]))
    return (probability * torch.stack(losses)).sum()


def _flat(gradients: Any, weights: list[nn.Parameter]) -> Tensor:
    found = [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, weights, strict=True)]
    return torch.cat([g.flatten() for g in found]).detach()


def test_hard_attention_sees_one_location_in_training_and_the_mean_after() -> None:
    kind = Hard(Shape(6, HIDDEN, 7, soft_share=0.5))
    features, hidden = features_of(200), torch.randn(200, 1, HIDDEN)
    glance = kind.train()(kind.view(features, torch.arange(200)), hidden)
    apart = (glance.context - features).abs().sum(2).amin(1) < 1e-6
    assert 70 < apart.sum() < 130
    assert glance.log_probability is not None
    assert (glance.log_probability[:, 0] != 0).equal(apart)
    glance = kind.eval()(kind.view(features, torch.arange(200)), hidden)
    assert torch.allclose(glance.context, glance.attention @ features)
    assert glance.log_probability is None
    sharp = Hard(Shape(6, HIDDEN, 7, at_test="argmax")).eval()
    glance = sharp(sharp.view(features, torch.arange(200)), hidden)
    peak = glance.attention.argmax(2)
    assert glance.context[:, 0].equal(features[torch.arange(200), peak[:, 0]])


def test_the_baseline_follows_the_objective_in_training_only() -> None:
    module = build(attention="hard", dropout=0.0, doubly_stochastic=0.0)
    x, tokens = pixels(4), tokens_of([2, 3, 2, 1])
    module.objective(x, tokens, 0.0)
    assert float(module.baseline) == 0.0
    module.train()
    first = module.objective(x, tokens, 0.0)[0].detach().mean()
    assert float(module.baseline) == pytest.approx(0.1 * float(first), rel=1e-5)
    second = module.objective(x, tokens, 0.0)[0].detach().mean()
    assert float(module.baseline) == pytest.approx(0.09 * float(first) + 0.1 * float(second), rel=1e-5)


# --- encoder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frozen", [False, True])
def test_the_gradient_reaches_the_pixels(kind: str, frozen: bool) -> None:
    module = build(attention=kind, frozen=frozen)
    for mode in (False, True):
        x = pixels(2).requires_grad_()
        loss = captioning.loss(module.train(mode)(x, tokens_of([3, 2])), tokens_of([3, 2]))
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        assert (gradient != 0).float().mean() > 0.95


@pytest.mark.parametrize("encoder", ["small", "resnet10t"])
def test_a_frozen_encoder_stays_as_it_is(encoder: str) -> None:
    module = build((3, 32, 32), encoder=encoder, frozen=True).train()
    assert module.training
    assert module.frozen
    assert not any(part.training for part in module.encoder.modules())
    before = {name: t.clone() for name, t in module.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        module.objective(pixels(4, side=32), tokens_of([3, 2, 4, 1]), 0.0)[0].mean().backward()
        optimizer.step()
    changed = {name for name, t in module.state_dict().items() if not t.equal(before[name])}
    assert not any(name.startswith("encoder") for name in changed)
    assert "decoder.out.weight" in changed
    assert all(p.requires_grad == name.startswith("decoder") for name, p in module.named_parameters())


def test_an_encoder_that_is_trained_follows_the_mode() -> None:
    module = build()
    assert not any(part.training for part in module.modules())
    assert all(part.training for part in module.train().modules())
    before = module.encoder.pixels.network[1].running_mean.clone()
    module.objective(pixels(4), tokens_of([1] * 4), 0.0)[0].mean().backward()
    assert not module.encoder.pixels.network[1].running_mean.equal(before)
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize(
    ("encoder", "grid"),
    [
        ("small", (8, 8)),
        ("resnet10t", (1, 1)),
        ("torchvision:resnet18", (1, 1)),
        ("torchvision:densenet121", (1, 1)),
        ("torchvision:swin_t", (1, 1)),
        ("swin_tiny_patch4_window7_224", (1, 1)),
        ("vit_tiny_patch16_224", (2, 2)),
    ],
)
def test_features_may_be_kept(encoder: str, grid: tuple[int, int]) -> None:
    module = build((3, 32, 32), encoder=encoder)
    x, tokens = pixels(2, side=32), tokens_of([3, 2])
    features = module.encode(x)
    assert module.grid == grid
    assert features.shape == (2, math.prod(grid), module.encoder.width)
    assert module(features, tokens).equal(module(x, tokens))
    one, other = (module.generate(given, beam=2, longest=4, length_penalty=0.0) for given in (x, features))
    assert one.tokens.equal(other.tokens)
    assert torch.allclose(module(features.half(), tokens), module(x, tokens), atol=0.01)


@pytest.mark.parametrize(
    ("side", "size", "grid"),
    [(8, None, (8, 8)), (28, None, (7, 7)), (64, None, (8, 8)), (16, 56, (7, 7)), (64, 224, (7, 7))],
)
def test_the_small_encoder_has_49_to_64_locations(side: int, size: int | None, grid: tuple[int, int]) -> None:
    assert build((3, side, side), image_size=size).grid == grid


def test_a_seed_decides_the_weights() -> None:
    one, same, other = (build(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(one[name].equal(same[name]) for name in one)
    assert not one["decoder.out.weight"].equal(other["decoder.out.weight"])


class Bright(nn.Module):
    """A map of the image's brightness in blocks of 4 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 4)


class Brightest(Attention):
    """Looks where it is bright."""

    def project(self, features: Tensor) -> Tensor:
        return features.mean(2, keepdim=True)

    def scores(self, projected: Tensor, hidden: Tensor) -> Tensor:
        return 100 * projected.transpose(1, 2).expand(-1, hidden.shape[1], -1)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 4), (1, 3), (2, 0)])
@pytest.mark.parametrize("beam", [1, 2])
def test_locations_are_told_row_by_row(row: int, column: int, beam: int) -> None:
    x = torch.zeros(1, 3, 12, 20)
    x[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1.0
    encoder = Encoder(Bright(), (3, 12, 20), "bright", frozen=True)
    decoder = Decoder(WORDS, 3, Brightest(Shape(3, HIDDEN, 1)), embed=4, hidden=HIDDEN, dropout=0.0)
    module = AttentiveCaptioner(encoder, decoder, Weights(), Schedule()).eval()
    assert module.grid == (3, 5)
    found = module.generate(x, beam=beam, longest=3, length_penalty=0.0)
    assert found.attention is not None
    looked = found.attention[0, 0].view(module.grid)
    assert looked[row, column] > 0.99


# --- learning


@pytest.mark.parametrize(
    "kind", [kind if kind == "none" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_it_learns_eight_captions_by_heart(kind: str) -> None:
    widths = {"embed_dim": 16, "decoder_dim": 48, "attention_dim": 16}
    settings = {"dropout": 0.0, "doubly_stochastic": 0.0}
    module = build((3, 8, 8), frozen=True, attention=kind, **widths, **settings)
    x, tokens = pixels(8, side=8), tokens_of([3, 4, 2, 5, 3, 1, 4, 2], seed=1)
    torch.manual_seed(0)
    features = module.encode(x)
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=0.02)
    module.train()
    for _ in range(250):
        optimizer.zero_grad()
        module.objective(features, tokens, 0.0)[0].mean().backward()
        optimizer.step()
    module.eval()
    for beam in (1, 3):
        said = module.generate(x, beam=beam, longest=8, length_penalty=0.0).tokens
        assert F.pad(said, (0, tokens.shape[1] - 1 - said.shape[1])).tolist() == tokens[:, 1:].tolist()


# --- component


def test_the_vocabulary_decides_the_words() -> None:
    vocabulary = Vocabulary.of([["یک", "مربع", "سرخ"]])
    preparation = Preparation(FACTS, (0.5,) * 3, (0.2,) * 3, vocabulary)
    for size in (None, 7):
        module = LSTMCaptioner(vocabulary_size=size).build(preparation)
        assert module(pixels(1), tokens_of([2], words=7)).shape == (1, 3, 7)
    with pytest.raises(BenchError, match="vocabulary_size is 8, the training captions have 7 words"):
        LSTMCaptioner(vocabulary_size=8).build(preparation)
    with pytest.raises(BenchError, match="neither vocabulary nor vocabulary_size"):
        LSTMCaptioner().build(preparation._replace(vocabulary=None))


@pytest.mark.parametrize(
    "wrong",
    [
        {"dropout": 1.5},
        {"attention_dim": 0},
        {"vocabulary_size": 4},
        {"teacher_end": -0.1},
        {"doubly_stochastic": -1.0},
        {"encoder": "small", "pretrained": True},
    ],
)
def test_senseless_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: "):
        LSTMCaptioner(**wrong)


def test_weights_of_a_whole_captioner_come_back(tmp_path: Path) -> None:
    trained = build(seed=3, encoder="resnet10t")
    path = tmp_path / "captioner.safetensors"
    save_file(trained.state_dict(), path)
    again = build(seed=4, encoder="resnet10t", weights=str(path), pretrained=True, image_size=16)
    x, tokens = pixels(2), tokens_of([2, 3])
    assert again(x, tokens).equal(trained(x, tokens))
    assert LSTMCaptioner(encoder="resnet10t", weights=str(path), pretrained=True).sources() == []
    with pytest.raises(BenchError, match=rf"needs shape \({WORDS + 1}, .*got \({WORDS}, "):
        build(words=WORDS + 1, encoder="resnet10t", weights=str(path))


def test_weights_of_the_encoder_alone(tmp_path: Path) -> None:
    trained = build(seed=3, encoder="torchvision:resnet18").encoder.pixels.network
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    tensors = {f"{names[int(k.partition('.')[0])]}.{k.partition('.')[2]}": t for k, t in trained.state_dict().items()}
    path = tmp_path / "resnet18.safetensors"
    save_file(tensors | {"fc.weight": torch.zeros(5, 512), "fc.bias": torch.zeros(5)}, path)
    module = build(seed=4, encoder="torchvision:resnet18", encoder_weights=str(path), image_size=32)
    assert all(t.equal(trained.state_dict()[k]) for k, t in module.encoder.pixels.network.state_dict().items())
    assert module.encoder.pixels.mean.flatten()[0] == pytest.approx(0.485)
    captioner = LSTMCaptioner(encoder="torchvision:resnet18", encoder_weights=str(path))
    assert captioner.sources() == [path]
    with pytest.raises(BenchError, match=r"encoder_weights: .*no such file"):
        LSTMCaptioner(encoder="resnet10t", encoder_weights="gone.safetensors").sources()


def test_an_encoder_without_a_map_is_refused() -> None:
    with pytest.raises(BenchError, match="encoder torchvision:vit_b_16: gives no map of features"):
        build((3, 32, 32), encoder="torchvision:vit_b_16")
    own_scale = nn.Sequential(nn.Conv2d(3, 4, 1))
    own_scale.transform_input = True
    with pytest.raises(BenchError, match="encoder odd: brings its input to a scale of its own"):
        without_head(Normalised(own_scale, (0.5,), (0.5,)), "odd")


@pytest.mark.parametrize(("encoder", "message"), [("resnet10x", "did you mean"), ("torchvision:resnet19", "resnet18")])
def test_an_unknown_encoder_gets_the_nearest(encoder: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        build(encoder=encoder)


def test_an_unknown_attention_gets_the_nearest() -> None:
    with pytest.raises(BenchError, match="attention: no such name 'aditive'; did you mean additive"):
        build(attention="aditive")


def test_another_package_adds_an_attention(plugin_distribution: Callable[..., Path]) -> None:
    source = """
        from plugins.captioning.attention import Additive, ScaledDot

        class Mine(ScaledDot):
            pass

        nothing = 1
    """
    plugin_distribution("stranger", source, attentions={"mine": "Mine", "nothing": "nothing", "additive": "Mine"})
    attention.find.cache_clear()
    assert type(build(attention="mine").decoder.attention).__name__ == "Mine"
    assert type(build(attention="additive").decoder.attention) is attention.Additive  # the built-in one wins
    with pytest.raises(BenchError, match="a subclass of Attention is needed"):
        attention.find("nothing")
    attention.find.cache_clear()


def _on_features(decoder: Decoder, weights: Weights) -> AttentiveCaptioner:
    """A captioner of which only the decoder is asked."""
    return AttentiveCaptioner(Encoder(Bright(), (3, 8, 8), "bright", frozen=True), decoder, weights, Schedule()).eval()
