"""An image classifier of the Hugging Face hub with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plugins.models.transformers import Transformers


@dataclass(frozen=True)
class HuggingFace(Transformers):
    """A model of the hub by its name, or of a folder that save_pretrained made, with its weights.

    The component ``transformers`` under a short name, pretrained unless said otherwise, for example
    hf:google/vit-base-patch16-224 or hf:./my_vit. See there for its parameters.
    """

    architecture: str = "google/vit-base-patch16-224"
    pretrained: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weights and Path(self.architecture).is_dir():
            from plugins.huggingface import INDEX, WEIGHTS

            folder = Path(self.architecture)
            names = [name for name in WEIGHTS if name != INDEX or not (folder / WEIGHTS[0]).is_file()]
            found = next((name for name in names if (folder / name).is_file()), WEIGHTS[0])
            object.__setattr__(self, "weights", str(folder / found))
            object.__setattr__(self, "architecture", "vit")  # not looked at; the folder's place is no part of the key
