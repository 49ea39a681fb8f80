"""Captioners of transformers: the library's own forward, search and attention as oracles, files, what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from captioners import KINDS, SENTENCES, saved, tokenizer
from torch import Tensor

from harness.boundary import bind
from harness.captioning.data import tokens_of
from harness.captioning.saying import Decoding, said
from harness.captioning.text import words
from harness.captioning.vocabulary import END, PAD, START, UNKNOWN
from harness.errors import BenchError
from harness.tasks import captioning as task
from harness.types import Captioner, Facts, Preparation
from plugins.captioning.subwords import Numbering, Specials
from plugins.captioning.vision_encoder_decoder import NEVER, Layout, TransformerCaptioner
from plugins.models.vision_encoder_decoder import VisionEncoderDecoder

transformers: Any = pytest.importorskip("transformers", reason="the extra captioning is not installed")
pytestmark = pytest.mark.slow  # importing it takes seconds
torch.set_num_threads(1)

N, SIZE, LONGEST = 6, 32, 10


def build(weights: Path, shape: tuple[int, int, int] = (3, SIZE, SIZE), **given: Any) -> TransformerCaptioner:
    facts = Facts(shape, (), {}, "", "", "", task="captioning", language="fa")
    preparation = Preparation(facts, (0.4,) * shape[0], (0.2,) * shape[0])
    module = bind("models", VisionEncoderDecoder(weights=str(weights), **given)).build(preparation=preparation)
    assert isinstance(module, TransformerCaptioner)
    return module


def images(size: int = SIZE, channels: int = 3) -> Tensor:
    return torch.rand(N, channels, size, size, generator=torch.Generator().manual_seed(3))


def captions_of(module: TransformerCaptioner, x: Tensor, beam: int, longest: int = LONGEST) -> list[str]:
    return said(cast("Captioner", module), x, module.vocabulary, Decoding(beam, longest))[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The weights of one captioner of each kind."""

    @cache
    def of(kind: str) -> Path:
        return saved(tmp_path_factory.mktemp(kind), kind, ends=1.0)

    return of


def theirs(weights: Path) -> Any:
    return transformers.VisionEncoderDecoderModel.from_pretrained(weights.parent).eval()


def seen(weights: Path, x: Tensor) -> Tensor:
    """What the image processor makes of pixels of its own size."""
    processor = transformers.AutoImageProcessor.from_pretrained(weights.parent)
    pixels: Tensor = processor(images=list(x), do_rescale=False, do_resize=False, return_tensors="pt")["pixel_values"]
    return pixels


# --- forward


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_what_transformers_takes_of_its_labels(kind: str, folder: Callable[[str], Path]) -> None:
    module, network, x = build(folder(kind)), theirs(folder(kind)), images()
    tokens = tokens_of(SENTENCES, module.vocabulary)
    ids = torch.tensor(module.vocabulary.numbering.ids)
    labels = torch.where(tokens[:, 1:] == PAD, -100, ids[tokens[:, 1:]])
    with torch.no_grad():
        found = network(pixel_values=seen(folder(kind), x), labels=labels)
        logits = module(x, tokens)
    own = [place for place in range(len(ids)) if place not in module.vocabulary.numbering.absent]
    assert torch.allclose(logits[..., own], found.logits[..., ids[own]], atol=1e-4)
    assert len(set(ids[own].tolist())) == found.logits.shape[-1]  # every id stands once
    lengths = (tokens[:, 1:] != PAD).sum(1)
    mean = (task.loss(logits, tokens) * lengths).sum() / lengths.sum()
    assert float(mean) == pytest.approx(float(found.loss), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_captioner_keeps_the_contract(kind: str, folder: Callable[[str], Path]) -> None:
    module, x = build(folder(kind)), images()
    tokens = tokens_of(SENTENCES, module.vocabulary)
    x.requires_grad_()
    loss, logits = module.objective(x, tokens, 0.5)
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    assert (gradient != 0).float().mean() > 0.95
    features = module.encode(x).detach()
    assert torch.allclose(module(features, tokens), logits, atol=1e-5)
    assert module(features.half(), tokens).dtype == torch.float32
    padded = torch.cat([tokens, torch.full_like(tokens[:, :3], PAD)], 1)
    assert torch.allclose(module.objective(x, padded, 0.5)[0], loss, atol=1e-5)
    assert torch.allclose(module.objective(x[2:3], tokens[2:3], 0.5)[0], loss[2:3], atol=1e-5)
    assert all(p.requires_grad for p in module.parameters())
    names = [name for name, _ in module.named_parameters()]
    assert len(names) == len({id(p) for p in module.parameters()})
    frozen = build(folder(kind), frozen=True).train()
    assert frozen.frozen
    assert not any(p.requires_grad for p in frozen.encoder.parameters())
    assert not any(part.training for part in frozen.encoder.modules())
    assert all(p.requires_grad for p in frozen.decoder.parameters())


def test_a_copy_of_the_weights_fits_and_the_copied_module_is_its_own(folder: Callable[[str], Path]) -> None:
    import copy

    module, x = build(folder("bert")), images()
    again = copy.deepcopy(module)
    tokens = tokens_of(SENTENCES, module.vocabulary)
    before = module(x, tokens)
    with torch.no_grad():
        for p in again.parameters():
            p.mul_(0.5)
    assert torch.equal(module(x, tokens), before)
    assert not torch.allclose(again(x, tokens), before, atol=1e-2)
    again.load_state_dict(module.state_dict())
    assert torch.equal(again(x, tokens), before)
    assert torch.equal(again.generate(x, beam=1, longest=5, length_penalty=0.0).tokens, _greedy(module, x, 5))


def _greedy(module: TransformerCaptioner, x: Tensor, longest: int) -> Tensor:
    """The likeliest token after the others, by the teacher-forced logits."""
    tokens = torch.full((len(x), 1), START)
    for _ in range(longest):
        best = module(x, torch.cat([tokens, tokens[:, :1]], 1))[:, -1].argmax(-1)
        over = (tokens[:, 1:] == END).any(1)
        tokens = torch.cat([tokens, torch.where(over, PAD, best)[:, None]], 1)
    return tokens[:, 1:]


# --- captions


@pytest.mark.parametrize(("beam", "penalty"), [(1, 0.0), (3, 0.0), (3, 1.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_captions_are_those_of_transformers(
    kind: str, beam: int, penalty: float, folder: Callable[[str], Path]
) -> None:
    module, network, x = build(folder(kind)), theirs(folder(kind)), images()
    found = module.generate(x, beam=beam, longest=LONGEST, length_penalty=penalty)
    given = {"num_beams": beam, "length_penalty": penalty} if beam > 1 else {}
    ids = network.generate(pixel_values=seen(folder(kind), x), max_new_tokens=LONGEST, **given)[:, 1:]
    end, pad = network.generation_config.eos_token_id, network.generation_config.pad_token_id
    numbers = module.vocabulary.numbering.numbers
    for row, own in zip(ids.tolist(), found.tokens.tolist(), strict=True):
        sentence = row[: row.index(end) + 1] if end in row else row
        assert set(row[len(sentence) :]) <= {pad}
        assert own == [numbers[id_] for id_ in sentence] + [PAD] * (len(row) - len(sentence))
    text = tokenizer(kind).batch_decode(ids, skip_special_tokens=True)
    captions = [" ".join(module.vocabulary.decode(row)) for row in found.tokens.tolist()]
    assert captions == [" ".join(words(caption, "fa")) for caption in text]
    assert len(set(captions)) > 2
    if beam == 1:
        assert torch.equal(found.tokens, _greedy(module, x, LONGEST)[:, : found.tokens.shape[1]])
    nats = module(x, torch.cat([torch.full((N, 1), START), found.tokens], 1)).log_softmax(-1)
    chosen = nats.gather(-1, found.tokens[..., None]).squeeze(-1)
    assert torch.allclose(found.log_probability, (chosen * (found.tokens != PAD)).sum(1), atol=1e-4)


@pytest.mark.parametrize("beam", [1, 3])
def test_an_image_is_said_the_same_of_alone(beam: int, folder: Callable[[str], Path]) -> None:
    module, x = build(folder("gpt2")), images()
    together = captions_of(module, x, beam)
    alone = [captions_of(module, one[None], beam)[0] for one in x]
    features = captions_of(module, module.encode(x).detach(), beam)
    assert alone == together == features


def test_what_the_generation_configuration_asks_for_beside_is_kept(tmp_path: Path) -> None:
    weights = saved(tmp_path, "gpt2")
    free = captions_of(build(weights), images(), 1, 20)
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "no_repeat_ngram_size": 1, "num_beams": 7}))
    module = build(weights)
    found = module.generate(images(), beam=1, longest=20, length_penalty=0.0).tokens
    assert all(len(set(row)) == len(row) for row in found.tolist())
    assert [" ".join(module.vocabulary.decode(row)) for row in found.tolist()] != free


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_the_mean_of_the_last_layers_heads_by_words(kind: str, folder: Callable[[str], Path]) -> None:
    module, x = build(folder(kind)), images()
    assert module.grid == (4, 4)
    found = module.generate(x, beam=1, longest=LONGEST, length_penalty=0.0)
    assert found.attention is not None
    assert found.attention.shape[2] == 16
    network = transformers.VisionEncoderDecoderModel.from_pretrained(folder(kind).parent, attn_implementation="eager")
    ids = torch.tensor(module.vocabulary.numbering.ids)
    before = ids[torch.cat([torch.full((N, 1), START), found.tokens[:, :-1]], 1)]
    answer = network.eval()(seen(folder(kind), x), decoder_input_ids=before, output_attentions=True)
    weights = answer.cross_attentions[-1].mean(1)[..., 1:]  # without the class token
    for image, row in enumerate(found.tokens.tolist()):
        places = module.vocabulary.places(row)
        assert len(places) == len(module.vocabulary.decode(row))
        for word, own in enumerate(places):
            assert torch.allclose(found.attention[image, word], weights[image, own].mean(0), atol=1e-5)
        assert not found.attention[image, len(places) :].any()


@pytest.mark.parametrize(
    ("features", "size", "patch", "layout"),
    [
        (197, (224, 224), 16, Layout(1, (14, 14))),
        (198, (224, 224), 16, Layout(2, (14, 14))),  # DeiT's distillation token
        (49, (224, 224), 4, Layout(0, (7, 7))),  # Swin joins patches
        (8, (32, 64), 16, Layout(0, (2, 4))),
        (50, (224, 224), None, Layout(0, (1, 50), known=False)),
    ],
)
def test_where_features_stand(features: int, size: tuple[int, int], patch: int | None, layout: Layout) -> None:
    assert Layout.of(features, size, patch) == layout


# --- words


@pytest.mark.parametrize("kind", KINDS)
def test_a_sentence_is_the_same_after_its_numbers(kind: str, folder: Callable[[str], Path]) -> None:
    vocabulary = build(folder(kind)).vocabulary
    for text in SENTENCES:
        tokens = vocabulary.encode(text.split())
        assert tokens[0] == START
        assert tokens[-1] == END
        assert {PAD, START, END}.isdisjoint(tokens[1:-1])
        assert vocabulary.decode([*tokens, PAD, 9]) == text.split()
        places = vocabulary.places(tokens)
        assert len(places) == len(text.split())
        assert sorted(place for own in places for place in own) == list(range(1, len(tokens) - 1))
        for word, own in zip(text.split(), places, strict=True):
            assert vocabulary.decode([tokens[place] for place in own]) == [word]
    assert vocabulary.encode([]) == [START, END]
    assert vocabulary.decode([END, 9]) == []
    assert len(set(vocabulary.words)) == len(vocabulary)


def test_an_id_that_stands_for_several_things_has_one_logit() -> None:
    apart = Numbering.of(6, Specials(pad=1, start=0, end=2, unknown=3))
    assert apart == Numbering((1, 0, 2, 3, *range(6)), frozenset({4, 5, 6, 7}))
    assert apart.numbers == {1: PAD, 0: START, 2: END, 3: UNKNOWN, 4: 8, 5: 9}
    one = Numbering.of(4, Specials(pad=2, start=2, end=2, unknown=2))
    assert one == Numbering((2, 2, 2, 2, *range(4)), frozenset({PAD, START, UNKNOWN, 6}))
    assert one.numbers == {2: END, 0: 4, 1: 5, 3: 7}
    assert Numbering.of(3, Specials(pad=0, start=0, end=1, unknown=None)) == (
        (0, 0, 1, 1, *range(3)),
        frozenset({START, UNKNOWN, 4, 5}),
    )


def test_what_has_no_logit_of_its_own_is_never_said(folder: Callable[[str], Path]) -> None:
    module = build(folder("gpt2"))
    logits = module(images(), tokens_of(SENTENCES, module.vocabulary))
    assert (logits[..., [PAD, START, UNKNOWN]] == NEVER).all()
    assert logits.softmax(-1)[..., [PAD, START, UNKNOWN]].max() == 0.0


def test_a_special_piece_in_a_sentence_does_not_end_it(folder: Callable[[str], Path]) -> None:
    vocabulary = build(folder("gpt2")).vocabulary
    assert vocabulary.encode(["<|endoftext|>"]) == [START, END]
    assert build(folder("roberta")).vocabulary.encode(["ژ"]) == [START, UNKNOWN, END]


def test_a_decoder_that_says_the_tokenizers_beginning_first_is_given_it(tmp_path: Path) -> None:
    """As one is that was trained with the labels that its tokenizer makes of a text."""
    weights = saved(tmp_path, "roberta")
    assert build(weights).vocabulary.opening == ()
    network = theirs(weights)
    network.decoder.get_output_embeddings().bias.data[0] += 100.0
    network.save_pretrained(tmp_path)
    vocabulary = build(weights).vocabulary
    assert vocabulary.opening == (START,)
    labels = tokenizer("roberta")(SENTENCES[0])["input_ids"]
    ids = vocabulary.numbering.ids
    assert [ids[number] for number in vocabulary.encode(SENTENCES[0].split())] == [0, *labels]
    assert vocabulary.decode(vocabulary.encode(SENTENCES[0].split())) == SENTENCES[0].split()


# --- images


def test_images_are_resized_and_grey_ones_shown_three_times(folder: Callable[[str], Path]) -> None:
    module = build(folder("bert"), (3, 48, 48))
    x = images(48).requires_grad_()
    assert module.encode(x).shape == (N, 17, 32)
    (gradient,) = torch.autograd.grad(module.encode(x).square().sum(), x)
    assert (gradient != 0).float().mean() > 0.95
    grey = images(channels=1)
    one = build(folder("bert"), (1, SIZE, SIZE))
    assert torch.equal(one.encode(grey), one.encode(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(BenchError, match="takes 3 channels, the data has 4"):
        build(folder("bert"), (4, SIZE, SIZE))


# --- files


def test_what_decides_the_captioner_beside_the_weights_is_a_source(folder: Callable[[str], Path]) -> None:
    sources = bind("models", VisionEncoderDecoder(weights=str(folder("gpt2")))).sources()
    assert [file.name for file in sources] == [
        *("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"),
        "preprocessor_config.json",
    ]


def test_its_size_is_told_without_weights(folder: Callable[[str], Path], tmp_path: Path) -> None:
    model = VisionEncoderDecoder(weights=str(folder("bert")))
    assert model.vocabulary_size == len(tokenizer("bert")) + 4
    for file in folder("bert").parent.iterdir():
        if file.name != "model.safetensors":
            shutil.copy(file, tmp_path)
    facts = Facts((3, SIZE, SIZE), (), {}, "", "", "", task="captioning", language="fa")
    outline = Preparation(facts, (0.4,) * 3, (0.2,) * 3, outline=True)
    hooks = bind("models", VisionEncoderDecoder(weights=str(tmp_path / "model.safetensors")))
    shapes = [p.shape for p in hooks.build(preparation=outline).parameters()]
    assert shapes == [p.shape for p in build(folder("bert")).parameters()]


def spoilt(folder: Path, case: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    if case == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif case == "no processor":
        (folder / "preprocessor_config.json").unlink()
    elif case == "no configuration":
        (folder / "config.json").unlink()
    elif case == "another architecture":
        transformers.ViTConfig().save_pretrained(folder)
    elif case == "no cross-attention":
        config["decoder"]["add_cross_attention"] = False
        (folder / "config.json").write_text(json.dumps(config))
    elif case == "a deeper decoder":
        config["decoder"]["num_hidden_layers"] = 3
        (folder / "config.json").write_text(json.dumps(config))
    elif case == "another tokenizer":
        tokenizer("gpt2").save_pretrained(folder)
    elif case == "many ends":
        file = folder / "generation_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": [2, 3]}))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (
            "no tokenizer",
            r"no tokenizer beside config\.json \(tokenizer\.json, vocab\.json, .*save its tokenizer there",
        ),
        ("no processor", r"no preprocessor_config\.json beside config\.json, so what its images"),
        ("no configuration", r"no config\.json beside it; the folder that save_pretrained writes"),
        ("another architecture", r"vit in config\.json, vision-encoder-decoder is needed; choose"),
        ("no cross-attention", r"its decoder has no cross-attention .*choose another captioner"),
        ("a deeper decoder", r"decoder\..*2.* is not among the weights; the same architecture"),
        ("another tokenizer", r"its tokenizer has 320 pieces, its decoder \d+; save the tokenizer"),
        ("many ends", r"sentences begin with 0 and end with \[2, 3\]; one id of each is needed"),
    ],
)
def test_a_folder_that_does_not_do_is_told_in_one_line(
    case: str, reason: str, tmp_path: Path, folder: Callable[[str], Path]
) -> None:
    shutil.copytree(folder("bert").parent, tmp_path / "bad")
    spoilt(tmp_path / "bad", case)
    with pytest.raises(BenchError, match=reason) as error:
        build(tmp_path / "bad" / "model.safetensors")
    assert "\n" not in str(error.value)


def test_a_name_is_needed_and_a_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no captioner is named; set architecture to one on the hub"):
        bind("models", VisionEncoderDecoder()).sources()
    with pytest.raises(BenchError, match=r"a folder; set weights = .*/model\.safetensors"):
        bind("models", VisionEncoderDecoder(architecture=str(tmp_path))).sources()


def test_a_caption_longer_than_the_decoder_is_refused(tmp_path: Path) -> None:
    module = build(saved(tmp_path, "roberta", positions=16))
    assert module.longest == 14  # two positions of RoBERTa's are before the first token
    module(images(), torch.full((N, 15), 9))
    with pytest.raises(BenchError, match="a caption of 15 tokens, its decoder has positions for 14; leave longer"):
        module(images(), torch.full((N, 16), 9))
    with pytest.raises(BenchError, match="a caption of 20 tokens"):
        module.generate(images(), beam=1, longest=20, length_penalty=0.0)


def test_offline_it_says_what_to_fetch_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    name = "nlpconnect/vit-gpt2-image-captioning"
    with pytest.raises(BenchError) as error:
        bind("models", VisionEncoderDecoder(architecture=name)).sources()
    assert str(error.value) == (
        f"model {name}: {name} is not in the local cache and could not be downloaded "
        f"(LocalEntryNotFoundError); fetch https://huggingface.co/{name}/resolve/main/model.safetensors and give it by "
        "--weights FOLDER/model.safetensors, with the repository's config.json, "
        "preprocessor_config.json, generation_config.json and the files of its tokenizer in the same folder"
    )


def test_the_hubs_cache_is_used_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache as huggingface_hub lays it out, which knows what the repository does not have."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--someone--captioner"
    weights = saved(place / "snapshots" / "abc", "gpt2")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    (place / ".no_exist" / "abc").mkdir(parents=True)
    for name in ("processor_config.json", "special_tokens_map.json", "added_tokens.json"):
        (place / ".no_exist" / "abc" / name).touch()
    model = VisionEncoderDecoder(architecture="someone/captioner")
    assert weights in bind("models", model).sources()
    assert model.vocabulary_size == 324
    facts = Facts((3, SIZE, SIZE), (), {}, "", "", "", task="captioning", language="fa")
    module = bind("models", model).build(preparation=Preparation(facts, (0.4,) * 3, (0.2,) * 3))
    x, tokens = images(), tokens_of(SENTENCES, module.vocabulary)
    assert torch.equal(module(x, tokens), build(weights)(x, tokens))


# --- a run


def test_it_is_evaluated_attacked_and_tuned_as_any_captioner(
    bench: Callable[..., subprocess.CompletedProcess[str]], folder: Callable[[str], Path]
) -> None:
    data = ("train=24", "validation=6", "test=8", "size=32", "references=2")
    model = "component = 'vision_encoder_decoder'\ndataset = 'shapes_fa'\n"
    Path("registry.toml").write_text(
        f"[models.gpt2]\n{model}weights = '{folder('gpt2')}'\ntraining.epochs = 0\n"
        f"[models.bert]\n{model}weights = '{folder('bert')}'\ntraining.epochs = 0\n"
        "[models.tuned]\nlike = 'bert'\nfrozen = true\n"
        "training = { epochs = 4, batch_size = 8, lr = 3e-3 }\n"
    )
    settings = (*(f"datasets.shapes_fa.{entry}" for entry in data), "run.longest=12", "attacks.pgd.steps=3")
    changes = [part for setting in settings for part in ("--set", setting)]
    given = ("--matrix", "captions", "--models", "gpt2,bert,tuned", "--attacks", "clean,pgd", *changes)
    ended = bench("run", *given)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = json.loads(bench("table", "--format", "json").stdout)
    found = {(row["model"], row["attack"], row["metric"]): row for row in rows}
    assert {row["status"] for row in rows} == {"ok"}
    for name in ("gpt2", "bert", "tuned"):
        assert found[name, "clean", "bleu4"]["n"] == 8
        assert found[name, "clean", "caption_loss"]["value"] > 0
        assert found[name, "pgd", "linf_max"]["value"] == pytest.approx(24 / 255, abs=1e-6)
        assert found[name, "pgd", "caption_changed"]["value"] > 0
    assert found["tuned", "clean", "caption_loss"]["value"] < found["bert", "clean", "caption_loss"]["value"] - 1
    assert len(list(Path("artifacts", "features").glob("*/features.npy"))) == 2
    assert "(6 cached)" in bench("run", *given).stdout
