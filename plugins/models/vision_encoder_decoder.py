"""A captioner of Hugging Face's transformers, an image encoder and a text decoder, by name or from a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.captioning.vocabulary import SPECIAL
from harness.errors import BenchError
from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, Preparation
from plugins import huggingface

if TYPE_CHECKING:
    from torch import nn

    from plugins.captioning.encoder import PixelEncoder
    from plugins.captioning.subwords import Specials

TOKENIZERS = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
)
"""The files that a tokenizer is made of, in the order of preference."""
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json")
ADVICE = (
    "give it by --weights FOLDER/model.safetensors, with the repository's config.json, "
    "preprocessor_config.json, generation_config.json and the files of its tokenizer in the same folder"
)
KIND = "vision-encoder-decoder"
OFFSET = ("roberta", "camembert")
"""Decoders that count positions from behind the padding id."""


@dataclass(frozen=True)
class VisionEncoderDecoder:
    """A captioner that is a VisionEncoderDecoderModel of the transformers library (Wolf et al., 2020).

    architecture: its name on the hub, for example nlpconnect/vit-gpt2-image-captioning, whose weights are taken.
    weights: instead, a local model.safetensors in the folder that save_pretrained made, with config.json, the image
    processor and the tokenizer beside it; ``architecture`` is then not looked at. (Of weights in several files the
    model.safetensors.index.json.) frozen: the encoder is not trained.

    Images are resized, cropped and normalised as the image processor does. Sentences are made of its tokenizer's pieces
    of words, and so are the loss and run.longest: with training.epochs = 0 it is evaluated as it is. Captions are
    searched for by transformers, with what the generation configuration says beside beam and length penalty.
    """

    task: ClassVar[str] = CAPTIONING

    architecture: str = ""
    weights: str = ""
    frozen: bool = False

    @property
    def vocabulary_size(self) -> int:
        """How many numbers its tokens have: the special ones', and one for each id of the decoder in config.json."""
        return len(SPECIAL) + int(self._entries(self._files(fill=False)[0])["decoder"]["vocab_size"])

    @hookimpl
    def sources(self) -> Sequence[Path]:
        # The weights file itself is one of the key already.
        return [file for file in self._files() if not self.weights or file != Path(self.weights)]

    @hookimpl
    def build(self, preparation: Preparation) -> nn.Module:
        from plugins.captioning.subwords import subwords
        from plugins.captioning.vision_encoder_decoder import Layout, TransformerCaptioner

        fill, facts = not preparation.outline, preparation.facts
        files = self._files(fill=fill)
        with huggingface.quiet():
            config = self._configuration(files[0])
            network = self._network(config, files if fill else [])
            tokenizer = self._tokenizer(files[0].parent, config)
            generation = self._generation(files[0].parent, network)
            encoder, size = self._encoder(network, config, files[0].parent, facts.shape)
        ids = int(config.decoder.vocab_size)
        if len(tokenizer) > ids:
            raise BenchError(
                f"model {self._name}: its tokenizer has {len(tokenizer)} pieces, its decoder {ids}; save the tokenizer "
                "that belongs to it there"
            )
        words = subwords(tokenizer, ids, self._specials(generation, tokenizer), facts.language)
        features = self._tried(encoder, facts.shape, size)
        layout = Layout.of(features, size, getattr(config.encoder, "patch_size", None))
        module = TransformerCaptioner(encoder, network, words, generation, layout, _positions(config.decoder))
        if fill:
            module.open(facts.shape)
        return module.eval()

    @property
    def _name(self) -> str:
        return self.weights or self.architecture

    # --- files

    def _files(self, *, fill: bool = True) -> list[Path]:
        """The files that decide the captioner, config.json first, the weights last; not to ``fill`` it without them."""
        huggingface.check_installed("vision_encoder_decoder", "captioning")
        if self.weights:
            found = huggingface.local(Path(self.weights))
            self._entries(found[0])
            folder = found[0].parent
            return [found[0], *self._words(lambda name: folder / name), *found[1:]]
        if "/" not in self.architecture:
            raise BenchError(
                "model vision_encoder_decoder: no captioner is named; set architecture to one on the hub, for example "
                "nlpconnect/vit-gpt2-image-captioning, or weights = FOLDER/model.safetensors"
            )
        huggingface.check_no_folder(self.architecture)
        from plugins import hub

        name = self.architecture
        found = huggingface.from_hub(name, ADVICE, fill=fill)
        self._entries(found[0])
        return [found[0], *self._words(lambda file: hub.optional(name, name, file, ADVICE)), *found[1:]]

    def _words(self, look: Callable[[str], Path | None]) -> list[Path]:
        """The files of the tokenizer and of generation."""

        def there(name: str) -> Path | None:
            found = look(name)
            return found if found is not None and found.is_file() else None

        for group in TOKENIZERS:
            if all(found := [there(name) for name in group]):
                return list(filter(None, [*found, *map(there, BESIDE)]))
        raise BenchError(
            f"model {self._name}: no tokenizer beside config.json ({', '.join(group[0] for group in TOKENIZERS)}), so "
            "its words are not known; save its tokenizer there"
        )

    # --- what the files say

    def _entries(self, file: Path) -> Any:
        """Of config.json. Raises BenchError where it is not one of such a captioner."""
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            kind = found.get("model_type", "no named kind")
        except (OSError, ValueError, AttributeError) as error:
            raise BenchError(f"model {self._name}: {file} is no configuration; fetch it again") from error
        if kind != KIND:
            raise BenchError(
                f"model {self._name}: {kind} in config.json, {KIND} is needed; choose a VisionEncoderDecoderModel, or "
                "for a classifier the component transformers"
            )
        return found

    def _configuration(self, file: Path) -> Any:
        from plugins.networks import one_line

        try:
            config = huggingface.library().AutoConfig.from_pretrained(file.parent, **huggingface.HERE)
        except Exception as error:  # each kind of model checks its configuration in its own way
            raise BenchError(f"model {self._name}: its configuration is refused: {one_line(error)}") from error
        if not getattr(config.decoder, "add_cross_attention", True):
            raise BenchError(
                f"model {self._name}: its decoder has no cross-attention (add_cross_attention in config.json), so it "
                "sees no image; choose another captioner"
            )
        config.decoder._attn_implementation = "eager"  # the others keep where they look to themselves
        return config

    def _network(self, config: Any, files: Sequence[Path]) -> Any:
        from plugins.networks import one_line

        kind = huggingface.library().VisionEncoderDecoderModel
        if not files:
            try:
                return kind(config)
            except Exception as error:
                raise BenchError(f"model {self._name}: cannot be built: {one_line(error)}") from error
        # The pooler is there and never asked.
        return huggingface.filled(
            kind, config, files, self._name, ["encoder.pooler.dense.weight", "encoder.pooler.dense.bias"]
        )

    def _tokenizer(self, folder: Path, config: Any) -> Any:
        from plugins.networks import one_line

        try:
            # Where the tokenizer does not tell its own kind, it is the one that goes with the decoder.
            return huggingface.library().AutoTokenizer.from_pretrained(
                folder, config=config.decoder, **huggingface.HERE
            )
        except Exception as error:
            raise BenchError(f"model {self._name}: its tokenizer: {one_line(error)}") from error

    def _generation(self, folder: Path, network: Any) -> Any:
        from plugins.networks import one_line

        if not (folder / "generation_config.json").is_file():
            return network.generation_config
        try:
            return huggingface.library().GenerationConfig.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            raise BenchError(f"model {self._name}: generation_config.json: {one_line(error)}") from error

    def _specials(self, generation: Any, tokenizer: Any) -> Specials:
        """What transformers begins, ends and fills a sentence with. Raises BenchError where that is not told."""
        from plugins.captioning.subwords import Specials

        ends = generation.eos_token_id if generation.eos_token_id is not None else tokenizer.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        starts = (generation.decoder_start_token_id, generation.bos_token_id)
        start = next((id_ for id_ in starts if id_ is not None), None)
        if start is None or ends[0] is None or len(ends) > 1:
            raise BenchError(
                f"model {self._name}: sentences begin with {start} and end with {ends}; one id of each is needed, "
                "decoder_start_token_id and eos_token_id in generation_config.json or config.json"
            )
        generation.decoder_start_token_id, generation.eos_token_id = start, ends[0]
        if generation.pad_token_id is None:
            generation.pad_token_id = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        return Specials(generation.pad_token_id, start, ends[0], tokenizer.unk_token_id)

    def _encoder(
        self, network: Any, config: Any, folder: Path, shape: tuple[int, int, int]
    ) -> tuple[PixelEncoder, tuple[int, int]]:
        """Pixels to features, and the size (H, W) of what the network sees."""
        from plugins.captioning.encoder import PixelEncoder
        from plugins.image_processors import preprocessing
        from plugins.networks import Normalised, Unwrapped

        own = preprocessing(folder, self._name)
        told = huggingface.interpolation(network.encoder, getattr(config.encoder, "image_size", None), own.size)
        hidden = Unwrapped(network.encoder, flipped=own.flipped, answer="last_hidden_state", **told)
        module = Normalised(hidden, own.mean, own.std, own.size, own.crop)
        huggingface.check_channels(module, self._name, shape[0])
        return PixelEncoder(module, frozen=self.frozen), own.size

    def _tried(self, encoder: PixelEncoder, shape: tuple[int, int, int], size: tuple[int, int]) -> int:
        """How many features an image has. Raises BenchError for an encoder that does not take such images."""
        import torch

        from plugins.networks import too_small

        try:
            with torch.no_grad():
                found = encoder(torch.full((1, *shape), 0.5))
        except Exception as error:  # foreign code, which has errors of every type
            raise too_small(self._name, size, error, "save the image processor that belongs to it there") from error
        if found.ndim != 3:
            raise BenchError(
                f"model {self._name}: its encoder answers one image with {tuple(found.shape)}; features (1, L, D) are "
                "needed; choose a captioner with a vision transformer"
            )
        return int(found.shape[1])


def _positions(decoder: Any) -> int | None:
    """How many tokens a decoder has positions for; None where that is not told."""
    stated = getattr(decoder, "max_position_embeddings", None)
    if stated is None or not any(name in decoder.model_type for name in OFFSET):
        return stated
    return int(stated) - int(decoder.pad_token_id) - 1
