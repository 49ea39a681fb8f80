"""The contract that every registered component keeps, outsiders' too: a new one is tested here with no new test."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import captioners
import numpy as np
import pytest
import torch
from networks import CLASSES, CPU, batch_of, images, small
from PIL import Image
from torch import Tensor, nn

from harness import locating, registry
from harness.assault import Assault
from harness.attacking import ModelProblem, propose
from harness.captioning.data import on_device as captions_on_device
from harness.captioning.text import LANGUAGES
from harness.captioning.vocabulary import Vocabulary
from harness.coercion import fill, signature
from harness.data import on_device
from harness.errors import BenchError
from harness.judging import Trial, judge
from harness.keys import key_of
from harness.randomness import SampleRandom
from harness.types import (
    AIMS,
    ANY_TASK,
    CAPTIONING,
    CLASSIFICATION,
    KINDS,
    SEVERITY,
    CaptionOutcome,
    Corpus,
    Facts,
    Outcome,
    Preparation,
    Score,
    Threat,
)
from harness.undisturbed import undisturbed

torch.set_num_threads(1)

# Parameters where the defaults are too large for a test; a component that is not named here is tested as it is.
SMALLER: dict[tuple[str, str], dict[str, Any]] = {
    ("models", "timm"): {
        "architecture": "vit_tiny_patch16_224",
        "patch_size": 4,
        "embed_dim": 16,
        "depth": 1,
        "num_heads": 2,
    },
    ("models", "vit"): {"size": "tiny", "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2},
    ("models", "torchvision"): {"architecture": "shufflenet_v2_x0_5"},
    ("models", "transformers"): {
        "overrides": {
            "patch_size": 4,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        }
    },
    ("models", "resnet18"): {"width": 1 / 16},
    ("attacks", "square"): {"queries": 60},
    ("attacks", "apgd_ce"): {"steps": 20},
    ("attacks", "apgd_dlr"): {"steps": 20},
    ("attacks", "apgd_t"): {"steps": 20, "n_target_classes": 3},
    ("attacks", "fab_t"): {"iterations": 10},
    ("attacks", "fmn"): {"steps": 20},
}
BUDGETS = {
    "Linf": Threat("Linf", 8 / 255),
    "L2": Threat("L2", 0.5),
    "L1": Threat("L1", 60.0),
    SEVERITY: Threat(SEVERITY, 3),
}
BATCH = batch_of(images(12, shape=(3, 32, 32)))  # corruptions need images of 32 pixels
# Labels as the model sees them: what is wrong from the start is not attacked.
BATCH = BATCH._replace(y=small()(BATCH.x).argmax(1))
FACTS = Facts((3, 16, 16), tuple("abcd"), {"train": 9, "validation": 9, "test": 9}, "none", "nobody", "nowhere")


@pytest.fixture(scope="module", autouse=True)
def _own_images(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the data set of anybody's images is made of here."""
    folder = tmp_path_factory.mktemp("own")
    SMALLER["models", "vision_encoder_decoder"] = {"weights": str(captioners.saved(folder / "captioner", "bert"))}
    for label in "abc":
        (folder / label).mkdir()
        for number in range(20):
            pixels = np.random.default_rng([ord(label), number]).integers(0, 256, (9, 11, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    SMALLER["datasets", "image_folder"] = {"path": str(folder), "size": 8}
    entries = [{"image": f"a/{number}.png", "captions_fa": ["یک سگ سیاه"]} for number in range(20)]
    (folder / "captions.json").write_text(json.dumps(entries))
    SMALLER["datasets", "coco_fa"] = {"path": str(folder), "size": 8, "drop": ["uncaptioned"]}


def every(*kinds: str) -> list[Any]:
    return [pytest.param(kind, name, id=f"{kind}-{name}") for kind in kinds for name in registry.names(kind)]


def made(kind: str, name: str) -> tuple[Any, Any]:
    """The component with affordable parameters, and its hooks."""
    component = fill(registry.load(kind, name), SMALLER.get((kind, name), {}), f"{kind}.{name}")
    return component, registry.bind(kind, component)


def test_every_kind_has_components() -> None:
    assert all(registry.names(kind) for kind in KINDS)


# --- every component ---


@pytest.mark.parametrize(("kind", "name"), every(*KINDS))
def test_it_is_a_frozen_dataclass_with_a_docstring_of_its_own(kind: str, name: str) -> None:
    component = registry.load(kind, name)  # refuses what is no frozen dataclass
    text = (component.__dict__.get("__doc__") or "").strip()
    generated = text.startswith(f"{component.__name__}(")  # what dataclass writes where there is none
    assert len(text) > 20
    assert not generated


@pytest.mark.parametrize(("kind", "name"), every(*KINDS))
def test_it_needs_no_parameter_and_its_hooks_fit_the_boundary(kind: str, name: str) -> None:
    component = registry.load(kind, name)
    registry.bind(kind, component())


@pytest.mark.parametrize(("kind", "name"), every(*KINDS))
def test_its_fields_are_typed_and_come_back_from_json_as_they_were(kind: str, name: str) -> None:
    component, _ = made(kind, name)
    hints = signature(type(component))
    assert set(hints) == {field.name for field in dataclasses.fields(component)}
    parameters = {field: getattr(component, field) for field in hints}
    again = fill(type(component), json.loads(json.dumps(parameters)), name)
    assert again == component
    assert hash(again) == hash(component)
    assert repr(again) == repr(component)
    assert key_of(parameters) == key_of({field: getattr(again, field) for field in hints})


@pytest.mark.parametrize(("kind", "name"), every(*KINDS))
def test_its_repr_tells_every_parameter(kind: str, name: str) -> None:
    component, _ = made(kind, name)
    for field in dataclasses.fields(component):
        assert f"{field.name}={getattr(component, field.name)!r}" in repr(component)


# --- data sets ---


@pytest.mark.parametrize(("kind", "name"), every("datasets"))
def test_a_data_set_states_facts_without_reading_anything(kind: str, name: str) -> None:
    _, hooks = made(kind, name)
    facts = hooks.facts()
    channels, height, width = facts.shape
    assert min(channels, height, width) > 0
    assert facts.task in ANY_TASK
    if facts.task == CLASSIFICATION:
        assert len(facts.classes) == len(set(facts.classes)) >= 2
    else:
        assert not facts.classes
        assert facts.language in LANGUAGES
        assert facts.minimum_count >= 1
    assert len(facts.groups) in (0, len(facts.classes))
    assert {"train", "validation", "test"} <= set(facts.sizes)
    assert min(facts.sizes.values()) > 0
    assert facts.licence
    assert facts.citation
    assert facts.source
    assert hooks.locate(roots=[]) is None or all(Path(file).is_file() for file in hooks.locate(roots=[]))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), every("datasets"))
def test_a_data_set_loads_what_its_facts_say(kind: str, name: str, request: pytest.FixtureRequest) -> None:
    _, hooks = made(kind, name)
    files = hooks.locate(roots=locating.roots())
    if files is None:
        folders = [request.getfixturevalue(fixture) for fixture in ("shared_data", "cifar_root")]
        files = hooks.locate(roots=folders)
    if files is None:
        # Not every data set can be had here; those that can are asked for in the tests of their own.
        pytest.skip(f"{name} lies neither in the folders that are searched nor among the shared data")
    facts, splits = hooks.facts(), hooks.load(files=files)
    load = on_device if facts.task == CLASSIFICATION else captions_on_device
    data = load(facts, splits, CPU, name)  # refuses shapes, types, labels and ids that do not fit
    for split in ("train", "validation", "test"):
        assert len(data.splits[split]) == facts.sizes[split]
        if facts.task == CLASSIFICATION:
            assert len(np.unique(splits[split].labels)) == len(facts.classes)
    assert not set(splits["train"].ids.tolist()) & set(splits["validation"].ids.tolist())
    assert all(0 < figure < 1 for figure in (*data.mean, *data.std))
    again = hooks.load(files=files)
    assert all(np.array_equal(again[split].ids, splits[split].ids) for split in splits)


# --- models ---


@pytest.mark.parametrize(("kind", "name"), every("models"))
def test_a_model_takes_pixels_gives_logits_and_follows_the_seed(kind: str, name: str) -> None:
    component, hooks = made(kind, name)
    says = getattr(component, "task", CLASSIFICATION) == CAPTIONING

    def build() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            vocabulary = Vocabulary.of([["a", "b", "c"]]) if says else None
            facts = FACTS._replace(language="fa") if says else FACTS
            module: nn.Module = hooks.build(preparation=Preparation(facts, (0.4,) * 3, (0.2,) * 3, vocabulary))
        return module.eval()

    built = build()
    tokens = torch.tensor([[1, 4, 5, 2], [1, 6, 2, 0], [1, 4, 4, 2]])

    def module(x: Tensor) -> Tensor:
        found: Tensor = built(x, tokens[: len(x)]) if says else built(x)
        return found

    x = batch_of(images(3, shape=FACTS.shape)).x.requires_grad_()
    if not getattr(component, "likelihood", True):
        built.memorise([(x.detach(), tokens[:, None])])
        assert built.generate(x, beam=1, longest=4, length_penalty=0.0).tokens.shape[0] == 3
        assert built.likelihood is False
        return
    logits = module(x)
    answers = len(built.vocabulary) if hasattr(built, "vocabulary") else 7
    assert logits.shape == ((3, 3, answers) if says else (3, 4))
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert torch.equal(module(x), logits)
    assert torch.allclose(module(x[:1]), logits[:1], atol=1e-4)  # no sample sees its neighbours
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert (gradient != 0).any()
    assert any(p.requires_grad for p in built.parameters())
    again = build().state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in built.state_dict().items())
    if says:
        rows, columns = built.grid
        assert built.encode(x).shape[1] >= rows * columns
        generated = built.generate(x, beam=1, longest=4, length_penalty=0.0)
        assert 1 <= generated.tokens.shape[1] <= 4
        assert generated.attention is None or generated.attention.shape[2] == rows * columns
        losses, logits = built.objective(x, tokens, 0.5)
        assert losses.shape == (3,)
        assert logits.shape == (3, 3, answers)


# --- attacks ---


def norms_of(name: str) -> tuple[str | None, ...]:
    try:
        return registry.load("attacks", name).norms or (None,)
    except BenchError:
        return (None,)  # a broken plugin fails its own tests and not the collection of all


def attack_norms() -> list[Any]:
    return [
        pytest.param(name, BUDGETS[norm] if norm else None, id=f"{name}-{norm}")
        for name in registry.names("attacks")
        for norm in norms_of(name)
    ]


def proposed(name: str, threat: Threat | None, seed: int = 0, module: nn.Module | None = None) -> Tensor:
    component, _ = made("attacks", name)
    module = module or small()
    with undisturbed(module):
        return propose(module, Assault(component, name, threat, seed), BATCH)


@pytest.mark.parametrize(("name", "threat"), attack_norms())
def test_an_attack_proposes_images_inside_budget_and_box(name: str, threat: Threat | None) -> None:
    x_adv = proposed(name, threat)
    assert x_adv.shape == BATCH.x.shape
    assert x_adv.dtype == torch.float32
    assert x_adv.isfinite().all()
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
    assert bool(threat) == bool((x_adv != BATCH.x).any())
    component, _ = made("attacks", name)
    if threat is None or not (threat.norm == SEVERITY or getattr(component, "minimum_norm", False)):
        size = (threat or BUDGETS["Linf"]).size(x_adv - BATCH.x)
        assert float(size.max()) <= (threat.eps if threat else 0) * (1 + 1e-4) + 1e-6


@pytest.mark.parametrize(("name", "threat"), attack_norms())
def test_an_attack_is_decided_by_its_seed(name: str, threat: Threat | None) -> None:
    first = proposed(name, threat, seed=7)
    torch.rand(3)  # whatever the global generator did before
    assert torch.equal(proposed(name, threat, seed=7), first)


@pytest.mark.parametrize(("name", "threat"), attack_norms())
def test_an_attack_leaves_model_generator_and_its_input_as_they_were(name: str, threat: Threat | None) -> None:
    component, _ = made("attacks", name)
    module, samples = small().train(), images(12, shape=(3, 32, 32))
    module.features[1].eval()  # frozen on purpose
    weights = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    modes, generator, given = [m.training for m in module.modules()], torch.get_rng_state(), BATCH.x.clone()
    outcome = judge(Trial(module, (Assault(component, name, threat, 0),), 5), samples)
    proposed(name, threat, module=module)
    assert [note.code for note in outcome.notes] == []
    assert all(torch.equal(tensor, weights[key]) for key, tensor in module.state_dict().items())
    assert [m.training for m in module.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(BATCH.x, given)


@pytest.mark.parametrize(("kind", "name"), every("attacks"))
def test_an_attack_says_what_it_supports_and_what_it_must_beat(kind: str, name: str) -> None:
    component, hooks = made(kind, name)
    assert set(component.norms) <= set(BUDGETS)
    assert set(getattr(component, "stronger_than", ())) <= set(registry.names("attacks"))
    whole = registry.offers(hooks, "perturb")
    by_step = registry.offers(hooks, "start") and registry.offers(hooks, "step")
    assert whole != by_step
    if by_step:
        assert component.steps >= 1
        assert component.restarts >= 1


# --- defenses ---


@pytest.mark.parametrize(("kind", "name"), every("defenses"))
def test_a_defense_gives_a_loss_to_minimise_or_a_module_to_deploy(kind: str, name: str) -> None:
    _, hooks = made(kind, name)
    module = small().train()
    if registry.offers(hooks, "objective"):
        problem = ModelProblem(module)
        losses = hooks.objective(problem=problem, batch=BATCH, random=SampleRandom(0, BATCH.ids))
        assert losses.shape == (12,)
        assert losses.isfinite().all()
        losses.mean().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
        assert module.training
        if registry.offers(hooks, "passes"):
            assert math.isfinite(hooks.passes())
            assert hooks.passes() >= 1
    if registry.offers(hooks, "wrap"):
        wrapped = hooks.wrap(module=module.eval())
        assert isinstance(wrapped, nn.Module)
        assert wrapped(BATCH.x).shape == (12, CLASSES)


# --- metrics ---


def outcomes() -> list[Outcome]:
    generator = np.random.default_rng(0)
    label = generator.integers(0, CLASSES, 40)
    clean = np.where(generator.random(40) < 0.8, label, (label + 1) % CLASSES)
    attacked = np.where(generator.random(40) < 0.5, clean, (clean + 1) % CLASSES)
    sizes = generator.random(40)
    passes = generator.integers(1, 9, 40).astype(float)
    random = Outcome(np.arange(40), label, clean, attacked, sizes, sizes * 3, passes, passes, sizes, seconds=0.5)
    classes = dict.fromkeys(("quantised_prediction", "proposal_prediction", "target"), attacked)
    ranks = generator.integers(1, CLASSES + 1, 40)
    optional = {"l1": sizes * 9, "zero_gradients": sizes, "confidence": sizes, "label_rank": ranks}
    random = dataclasses.replace(random, **optional, **classes)
    one = Outcome(*(getattr(random, field.name)[:1] for field in dataclasses.fields(random)[:9]))
    never = dataclasses.replace(random, clean_prediction=(label + 1) % CLASSES, prediction=(label + 1) % CLASSES)
    return [random, one, never]


def sentences() -> list[CaptionOutcome]:
    generator = np.random.default_rng(0)
    said = [tuple(" ".join(generator.choice(list("abc"), 5)) for _ in range(12)) for _ in range(4)]
    sizes, counts = generator.random(12), generator.integers(1, 3, 12)
    corpus = Corpus(frozenset(said[0][:3]), frozenset("abc"), {("a",): 3, ("a", "b"): 1}, 12)
    references = tuple(zip(said[2], said[3], strict=True))
    common: dict[str, Any] = dict.fromkeys(("loss", "linf", "l2", "forwards", "backwards", "proposal_size"), sizes)
    boxes = {"named": counts, "pointed": counts // 2, "covered": sizes}
    random = CaptionOutcome(np.arange(12), references, said[0], said[1], corpus=corpus, seconds=0.5, **common, **boxes)
    silent = dataclasses.replace(random, caption=("",) * 12, named=None, pointed=None, covered=None)
    aimed = [dataclasses.replace(random, target=said[3], facts={"aim": aim}) for aim in AIMS]
    return [random, silent, *aimed]


@pytest.mark.parametrize(("kind", "name"), every("metrics"))
def test_a_metric_gives_a_finite_score_inside_its_interval_or_none(kind: str, name: str) -> None:
    component, hooks = made(kind, name)
    assert component.unit
    assert component.higher_is_better in (True, False, None)
    facts = FACTS._replace(groups=tuple("ab"[k % 2] for k in range(CLASSES)))
    task = getattr(component, "task", CLASSIFICATION)
    assert task in ("", *ANY_TASK)
    found: list[Any] = [*(outcomes() if task != CAPTIONING else ()), *(sentences() if task != CLASSIFICATION else ())]
    scores = [hooks.measure(outcome=outcome, facts=facts) for outcome in found]
    aimed = scores[2:] if task == CAPTIONING else []
    assert scores[0] is not None or any(score is not None for score in aimed)
    for score, outcome in zip(scores, found, strict=True):
        if score is None:
            continue
        value, low, high, n = Score(*score)
        assert math.isfinite(value)
        assert (low is None) == (high is None)
        assert low is None or (math.isfinite(low) and low <= value <= high and math.isfinite(high))
        assert 1 <= n <= len(outcome.ids)
