"""Attacks that want a certain caption or word, and captioners that repeat what they have seen."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.assault import Assault
from harness.captioning.aiming import Wanted
from harness.captioning.data import CaptionSamples, tokens_of
from harness.captioning.judging import CaptionTrial, judge
from harness.captioning.lessons import CaptionLessons
from harness.captioning.looking import AimedLook, margin
from harness.captioning.saying import Decoding, said
from harness.captioning.scores import document_frequencies
from harness.captioning.vocabulary import PAD, START, Vocabulary
from harness.errors import BenchError
from harness.recipe import Recipe
from harness.tasks.captioning import reached
from harness.types import Batch, CaptionOutcome, Corpus, Facts, Preparation, Score, Threat
from plugins.attacks.pgd import PGD
from plugins.captioning.retrieval import Retrieval
from plugins.metrics.bleu import Bleu
from plugins.metrics.target_reached import TargetReached
from plugins.models.caption_baseline import CaptionBaseline
from plugins.models.captioner import LSTMCaptioner

torch.set_num_threads(1)

TRAINING = ("a red ball", "a blue ball here", "two green cubes", "a tall tree stands here", "no cat", "grey")
VOCABULARY = Vocabulary.of([text.split() for text in TRAINING])
CORPUS = Corpus(
    frozenset(TRAINING), frozenset(VOCABULARY.words[4:]), document_frequencies([(t,) for t in TRAINING]), len(TRAINING)
)
SHAPE = (3, 8, 8)


def wanted(aim: str, seed: int = 3, **changes: Any) -> Wanted:
    return replace(Wanted(aim, VOCABULARY, CORPUS, 12, seed), **changes)


# --- what is wanted


@pytest.mark.parametrize("aim", ["caption", pytest.param("keyword", marks=pytest.mark.slow)])
@given(ids=st.lists(st.integers(0, 2**40), min_size=1, max_size=8, unique=True), data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_target_is_of_the_image_alone_and_never_true_of_it(aim: str, ids: list[int], data: st.DataObject) -> None:
    texts = st.sampled_from(TRAINING)
    now = [data.draw(texts) for _ in ids]
    truths = [tuple(data.draw(st.lists(texts, min_size=1, max_size=2))) for _ in ids]
    together = wanted(aim).draw(np.array(ids), now, truths)
    alone = [wanted(aim).draw(np.array([i]), [n], [t])[0] for i, n, t in zip(ids, now, truths, strict=True)]
    assert together == alone
    for target, own, true in zip(together, now, truths, strict=True):
        assert not any(reached(aim, text, target) for text in (own, *true))
        assert target in (TRAINING if aim == "caption" else VOCABULARY.words[4:])


def test_targets_differ_by_seed_and_image() -> None:
    ids, blank = np.arange(40), ["grey"] * 40
    first = wanted("caption").draw(ids, blank, [("grey",)] * 40)
    assert set(first) == set(TRAINING) - {"grey"}
    assert first != wanted("caption", seed=4).draw(ids, blank, [("grey",)] * 40)


def test_a_caption_with_unknown_words_or_too_many_is_not_wanted() -> None:
    few = replace(wanted("caption"), vocabulary=Vocabulary.of([["grey"], ["no", "cat"]]))
    assert set(few.draw(np.arange(20), ["x"] * 20, [("x",)] * 20)) == {"grey", "no cat"}
    short = replace(few, longest=2)
    assert set(short.draw(np.arange(20), ["x"] * 20, [("x",)] * 20)) == {"grey"}
    with pytest.raises(BenchError, match="no training caption has fewer than 1 words"):
        replace(few, longest=1).draw(np.arange(2), ["x"] * 2, [("x",)] * 2)
    with pytest.raises(BenchError, match="no training caption says anything else than image 7 shows"):
        wanted("caption").draw(np.array([7]), ["grey"], [TRAINING])


def test_a_word_is_reached_as_a_word() -> None:
    assert reached("keyword", "a red ball", "ball")
    assert not reached("keyword", "a red ballroom", "ball")
    assert not reached("caption", "a red ball", "a red")


# --- the way there


def captioner(seed: int = 0, **changes: Any) -> nn.Module:
    """One that has learnt what eight random images are called by heart."""
    facts = Facts(SHAPE, (), {"train": 1, "validation": 1, "test": 1}, "", "", "", task="captioning")
    widths = {"embed_dim": 16, "decoder_dim": 48, "attention_dim": 16, "dropout": 0.0, "doubly_stochastic": 0.0}
    torch.manual_seed(seed)
    made = LSTMCaptioner(**{**widths, "width": 0.25, **changes})
    module = made.build(Preparation(facts, (0.5,) * 3, (0.3,) * 3, VOCABULARY))
    tokens = tokens_of([TRAINING[k % len(TRAINING)] for k in range(8)], VOCABULARY)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        module.objective(images(), tokens, 0.0)[0].mean().backward()  # type: ignore[operator]
        optimizer.step()
    return module.eval().requires_grad_(False)


def images(n: int = 8) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1)).mul(255).round() / 255


@pytest.fixture(scope="module")
def learnt() -> nn.Module:
    return captioner()


def samples(n: int = 8) -> CaptionSamples:
    return CaptionSamples(
        images(n).mul(255).round().byte().numpy(),
        np.arange(n),
        tuple((TRAINING[k % len(TRAINING)],) for k in range(n)),
        np.arange(100, 100 + n),
        VOCABULARY,
        torch.device("cpu"),
    )


def test_margin_is_the_lead_over_the_best_other_word() -> None:
    logits = torch.tensor([[[1.0, 4.0, 2.0], [0.0, -1.0, 5.0]]])
    assert margin(logits, torch.tensor([[1, 0]])).tolist() == [[2.0, -5.0]]


def look(learnt: nn.Module, aim: str, targets: list[str]) -> tuple[AimedLook, Batch]:
    ids = torch.arange(100, 100 + len(targets))
    tokens = tokens_of(targets, VOCABULARY)
    batch = Batch(images(len(targets)), tokens if aim == "caption" else tokens[:, 1:2], ids)
    by_id = dict(zip(ids.tolist(), targets, strict=True))
    made = AimedLook(learnt, 32, aim=aim, targets=by_id, vocabulary=VOCABULARY, how=Decoding(longest=8))
    return made, batch


def test_towards_a_caption_its_loss_falls(learnt: nn.Module) -> None:
    targets = [TRAINING[(k + 1) % 6] for k in range(8)]
    made, batch = look(learnt, "caption", targets)
    found = made(batch.x, batch, {}, gradient=True)
    logits = learnt(batch.x, batch.y).double()
    nats = -logits.log_softmax(-1).gather(2, batch.y[:, 1:, None]).squeeze(2)
    has = batch.y[:, 1:] != PAD
    torch.testing.assert_close(found.loss.double(), -(nats * has).sum(1) / has.sum(1), rtol=1e-4, atol=1e-4)
    assert found.fooled.tolist() == [False] * 8


def test_an_image_that_says_what_is_wanted_has_been_fooled(learnt: nn.Module) -> None:
    own = [TRAINING[k % 6] for k in range(8)]
    made, batch = look(learnt, "caption", own)
    assert bool(made(batch.x, batch, {}, gradient=False).fooled.all())
    made, batch = look(learnt, "keyword", [text.split()[-1] for text in own])
    found = made(batch.x, batch, {}, gradient=False)
    assert bool(found.fooled.all())
    assert bool((found.loss > 0).all())  # it leads at its place


def test_a_keyword_is_pushed_where_it_is_nearest(learnt: nn.Module) -> None:
    targets = ["tree", "cat", "cubes", "grey"]
    made, batch = look(learnt, "keyword", targets)
    found = made(batch.x, batch, {}, gradient=True)
    assert found.gradient is not None
    for row, word in enumerate(targets):
        tokens = learnt.generate(batch.x[row : row + 1], beam=1, longest=8, length_penalty=0.0).tokens  # type: ignore[operator]
        whole = torch.cat([torch.tensor([[START]]), tokens], 1)
        number = VOCABULARY.encode([word])[1]
        leads = []
        for place in range(int((tokens != PAD).sum())):
            logits = learnt(batch.x[row : row + 1], whole[:, : place + 2])[0, place]
            others = torch.cat([logits[:number], logits[number + 1 :]])
            leads.append(float(logits[number] - others.max()))
        assert float(found.loss[row]) == pytest.approx(max(leads), abs=1e-4)
    step = 1e-3 * found.gradient / found.gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    moved = made(batch.x + step, batch, {}, gradient=False).loss - found.loss
    slope = 1e-3 * found.gradient.flatten(1).norm(dim=1)
    torch.testing.assert_close(moved, slope, rtol=0.1, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("aim", ["caption", "keyword"])
def test_with_all_of_the_box_it_says_what_is_wanted_and_stops(learnt: nn.Module, aim: str) -> None:
    def attacked(final_iterate: bool) -> CaptionOutcome:
        assault = Assault(PGD(steps=60), "pgd", Threat("Linf", 0.5), seed=1, final_iterate=final_iterate)
        return judge(CaptionTrial(learnt, assault, Decoding(longest=8), 5, aim), samples(), CORPUS)

    found = attacked(False)
    assert found.aim == aim
    assert found.target is not None
    rate = TargetReached(aim).measure(found)  # type: ignore[arg-type]
    assert rate is not None
    assert rate.value >= 0.75
    assert rate.n == 8
    hits = [reached(aim, text, goal) for text, goal in zip(found.caption, found.target, strict=True)]
    assert rate.value == pytest.approx(np.mean(hits))
    # Who says it is left alone: 60 steps, 61 looks, and one before.
    assert bool((found.forwards[hits] < 62).any())
    assert bool((found.linf <= 0.5 + 1e-6).all())
    other = TargetReached("keyword" if aim == "caption" else "caption").measure(found)
    assert other is None
    towards = Bleu(against="target").measure(found)
    assert (towards is not None) == (aim == "caption")
    if towards is not None:
        plain = Bleu().measure(replace_references(found))
        assert isinstance(plain, Score)
        assert towards.value == pytest.approx(plain.value)
    last = attacked(True)
    assert bool((last.forwards + 1 >= found.forwards).all())  # without the look at the last image


def replace_references(found: CaptionOutcome) -> CaptionOutcome:
    assert found.target is not None
    return replace(found, references=tuple((text,) for text in found.target))


def test_an_attack_without_a_target_has_no_rate(learnt: nn.Module) -> None:
    assault = Assault(PGD(steps=2), "pgd", Threat("Linf", 0.1), seed=1)
    found = judge(CaptionTrial(learnt, assault, Decoding(longest=8), 8), samples(), CORPUS)
    assert (found.target, found.aim) == (None, "")
    # It was said of them what is true, so what is made unlikely is the truth.
    still = judge(CaptionTrial(learnt, Assault(PGD(), "clean", None, 0), Decoding(longest=8), 8), samples(), CORPUS)
    assert bool((found.loss > still.loss).all())
    assert TargetReached().measure(found) is None
    assert Bleu(against="target").measure(found) is None


# --- captions learnt together


@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_captions_of_an_image_stand_in_a_row(counts: list[int], seed: int) -> None:
    texts = tuple(tuple(f"w{k}" for _ in range(count)) for k, count in enumerate(counts))
    vocabulary = Vocabulary.of([[text] for one in texts for text in one])
    pixels = np.arange(len(counts), dtype=np.uint8)[:, None, None, None].repeat(3, 1)
    train = CaptionSamples(
        pixels, np.arange(len(counts)), texts, np.arange(len(counts)), vocabulary, torch.device("cpu")
    )
    lessons = CaptionLessons(train, train, 0, 4, 5)
    order = lessons.order(torch.Generator().manual_seed(seed))
    assert sorted(order.tolist()) == list(range(sum(counts)))
    owner = [k for k, count in enumerate(counts) for _ in range(count)]
    images_in_order = [owner[place] for place in order.tolist()]
    changes = 1 + sum(a != b for a, b in itertools.pairwise(images_in_order))
    assert changes == len(counts)
    for batch in lessons.batches(list(order.split(5)), Recipe(), 0):
        unique, of = train.owners(batch.ids)
        assert len(batch.x) == len(unique)
        shown = (batch.x[of][:, 0, 0, 0] * 255).round().long().tolist()
        assert shown == [owner[place] for place in batch.ids.tolist()]
        assert batch.y.tolist() == train.tokens[batch.ids].tolist()


# --- what a captioner has to beat


def baseline(**changes: Any) -> Retrieval:
    facts = Facts(SHAPE, (), {"train": 1, "validation": 1, "test": 1}, "", "", "", task="captioning")
    module = CaptionBaseline(**changes).build(Preparation(facts, (0.5,) * 3, (0.3,) * 3, VOCABULARY))
    assert isinstance(module, Retrieval)
    return module


def uneven(n: int = 30) -> CaptionSamples:
    random = np.random.RandomState(4)
    texts = tuple(tuple(random.choice(TRAINING, random.randint(1, 4)).tolist()) for _ in range(n))
    made = samples(n)
    return replace(made, references=texts)


def words(module: Any, x: Tensor, longest: int = 30) -> list[str]:
    return said(module, x, VOCABULARY, Decoding(longest=longest))[0]


@pytest.mark.parametrize("size", [1, 7, 30])
def test_the_most_frequent_caption_is_said_of_everything(size: int) -> None:
    train, module = uneven(), baseline()
    module.memorise(train.whole(size))
    counts = Counter(text for one in train.references for text in one)
    most = max(counts.values())
    (text,) = set(words(module, images(5)))
    assert counts[text] == most
    assert words(module, images(2), longest=1) == [text.split()[0]] * 2


@pytest.mark.parametrize("size", [1, 7, 30])
def test_the_nearest_image_lends_its_first_caption(size: int) -> None:
    train, module = uneven(), baseline(kind="nearest_neighbour")
    module.memorise(train.whole(size))
    x = torch.rand(9, *SHAPE)
    flat = x.flatten(1).numpy()  # 8 x 8 pixels are all of them
    known = train.pixels(torch.arange(30)).flatten(1).numpy()
    near = ((flat[:, None] - known[None]) ** 2).sum(2).argmin(1)
    assert words(module, x) == [train.references[k][0] for k in near]
    assert words(module, train.pixels(torch.arange(30))) == [one[0] for one in train.references]
    again = baseline(kind="nearest_neighbour")
    again.load_state_dict(module.state_dict())
    assert words(again, x) == words(module, x)


def test_by_a_network_images_are_compared_by_the_angle() -> None:
    train, module = uneven(), baseline(kind="nearest_neighbour", encoder="resnet18", image_size=32)
    module.memorise(train.whole(8))
    x = torch.rand(6, *SHAPE)

    def mean(x: Tensor) -> Tensor:
        return nn.functional.normalize(module.encode(x).mean(1), dim=1)

    near = (mean(x) @ mean(train.pixels(torch.arange(30))).T).argmax(1).tolist()
    assert words(module, x) == [train.references[k][0] for k in near]


def test_what_is_repeated_has_no_probability() -> None:
    module = baseline()
    module.memorise(uneven().whole(8))
    trial = CaptionTrial(module, Assault(PGD(), "clean", None, 0), Decoding(), 3)
    found = judge(trial, samples(), CORPUS)
    assert np.isnan(found.loss).all()
    assert set(found.caption) == set(words(module, images(1)))
    assert not list(module.parameters())


@pytest.mark.parametrize(
    "wrong",
    [{"encoder": "small"}, {"pretrained": True}, {"encoder_weights": "x"}, {"encoder": "resnet18", "image_size": 0}],
)
def test_senseless_baselines_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"encoder|image_size"):
        CaptionBaseline(**wrong)
