"""Small captioners of transformers with random weights, in folders as save_pretrained makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SENTENCES = (
    "در این تصویر یک دایره قرمز بزرگ دیده می‌شود",
    "یک مربع آبی کوچک بالای دو ستاره زرد بزرگ قرار دارد",
    "سه مثلث سبز کوچک در تصویر قرار دارد",
    "این تصویر دو لوزی بنفش بزرگ را نشان می‌دهد",
    "یک مستطیل نارنجی کوچک سمت چپ یک دایره سبز بزرگ است",
    "دو ستاره آبی بزرگ زیر یک مربع زرد کوچک دیده می‌شود",
)
KINDS = ("gpt2", "roberta", "bert")
WIDTH = {"gpt2": 32, "roberta": 32, "bert": 24}
"""Of the decoder; that of the encoder is 32."""


def saved(folder: Path, kind: str, *, size: int = 32, seed: int = 1, positions: int = 64, ends: float = 0.0) -> Path:
    """The weights of a captioner whose decoder is of this kind. ends: what is about added to the logit of the end.

    Of GPT-2 one token begins, ends and fills. RoBERTa and BERT have one for each; BERT's features are projected.
    """
    import transformers

    words = tokenizer(kind)
    vit = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=size,
        patch_size=8,
        initializer_range=0.3,
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        vit, _decoder(kind, len(words), positions)
    )
    config.decoder_start_token_id = words.cls_token_id if words.cls_token_id is not None else words.bos_token_id
    config.pad_token_id = words.pad_token_id
    config.eos_token_id = words.eos_token_id
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: Any = transformers.VisionEncoderDecoderModel(config)
        for layer in network.decoder.modules():
            if isinstance(layer, torch.nn.LayerNorm):  # as wide apart as those of a trained one
                torch.nn.init.normal_(layer.bias, std=0.5)
    last = [layer.bias.data for layer in network.decoder.modules() if isinstance(layer, torch.nn.LayerNorm)][-1]
    network.decoder.get_output_embeddings().weight.data[words.eos_token_id] += ends * last / last.square().sum()
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    shape = {"height": size, "width": size}
    transformers.ViTImageProcessor(size=shape, image_mean=[0.4, 0.5, 0.6]).save_pretrained(folder)
    return folder / "model.safetensors"


def tokenizer(kind: str) -> Any:
    """Of Persian words in pieces: of bytes for GPT-2, else of letters."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made: Any = transformers.PreTrainedTokenizerFast
    if kind == "gpt2":
        end = "<|endoftext|>"
        whole = Tokenizer(models.BPE())
        whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        whole.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        whole.train_from_iterator(
            SENTENCES, trainers.BpeTrainer(vocab_size=320, special_tokens=[end], initial_alphabet=alphabet)
        )
        return made(tokenizer_object=whole, bos_token=end, eos_token=end, pad_token=end, unk_token=end)
    names = {
        "roberta": ("<s>", "<pad>", "</s>", "<unk>"),
        "bert": ("[CLS]", "[PAD]", "[SEP]", "[UNK]"),
    }[kind]
    start, pad, end, unknown = names
    known = sorted({word for text in SENTENCES for word in text.split()})
    letters = sorted(set("".join(known)))
    # Every other word is one piece, so that the others are several. (Trained ones are not the same twice.)
    pieces = [*names, *known[::2], *letters, *(f"##{letter}" for letter in letters)]
    whole = Tokenizer(models.WordPiece({piece: id_ for id_, piece in enumerate(pieces)}, unk_token=unknown))
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    whole.decoder = decoders.WordPiece()
    ids = [(name, whole.token_to_id(name)) for name in (start, end)]
    whole.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=ids)
    return made(
        tokenizer_object=whole,
        bos_token=start,
        cls_token=start,
        eos_token=end,
        sep_token=end,
        pad_token=pad,
        unk_token=unknown,
    )


def _decoder(kind: str, words: int, positions: int) -> Any:
    import transformers

    sees: dict[str, Any] = {
        "is_decoder": True,
        "add_cross_attention": True,
        "vocab_size": words,
        "initializer_range": 0.4,
    }
    if kind == "gpt2":
        sizes: dict[str, Any] = {"n_embd": WIDTH[kind], "n_layer": 2, "n_head": 2, "n_positions": positions}
        return transformers.GPT2Config(**sees, **sizes, bos_token_id=0, eos_token_id=0)
    sizes = {
        "hidden_size": WIDTH[kind],
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": positions,
    }
    return {"roberta": transformers.RobertaConfig, "bert": transformers.BertConfig}[kind](**sees, **sizes)
