"""What a checkpoint is, as values, from its config and its file headers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from backends.text import Text

ModelFormat = Literal["safetensors", "bin", "gguf"]


class ModuleKind(StrEnum):
    """What a module does, in execution order."""

    VISION = "vision"
    PROJECTOR = "projector"
    EMBED = "embed"
    LAYER = "layer"
    NORM = "norm"
    HEAD = "head"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file header. `name` is the file's key, `dtype` torch's name or GGUF's (q4_k)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    file: str

    @property
    def parameters(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True)
class LayerCache:
    """What one decoder layer keeps of a conversation, where that is not plain keys and values of all tokens.

    `per_token` numbers are kept for each token, of at most `window` tokens (None: of all). A layer that looks
    at pictures by cross-attention keeps `picture_tokens` for each picture instead of words. `state` numbers
    of the compute dtype (a convolution's inputs) and `state_fp32` (a recurrent state) are kept once.
    """

    per_token: int
    window: int | None = None
    picture_tokens: int | None = None
    state: int = 0
    state_fp32: int = 0

    def nbytes(self, tokens: int, images: int, width: int) -> int:
        """Bytes after `tokens` tokens and `images` pictures, with `width` bytes a number."""
        kept = tokens if self.window is None else min(tokens, self.window)
        if self.picture_tokens is not None:
            kept = images * self.picture_tokens
        return (self.per_token * kept + self.state) * width + self.state_fp32 * 4


@dataclass(frozen=True, slots=True)
class Module:
    """A part of the model that is never split over devices.

    `name` is the module path in the loaded transformers model (`model.language_model.layers.0`), which
    is what a device map's keys are. `linear_parameters` and `linear_rows` count the nn.Linear weights
    inside it that bitsandbytes would quantize. `idle_parameters` are those that a decoded token does not
    pass: experts that it does not visit. `unit_parameters` is the largest block inside a vision part, which
    is placed as a whole but read block by block (0: the module is read as a whole). `cache` is what a decoder
    layer keeps of a conversation (None: keys and values of every token, in the language model's sizes).
    `converted_parameters` are those that loading puts together anew (experts in one tensor), so that their
    values are in no file as they are used.
    """

    name: str
    kind: ModuleKind
    parameters: int
    nbytes: int
    linear_parameters: int = 0
    linear_rows: int = 0
    idle_parameters: int = 0
    unit_parameters: int = 0
    cache: LayerCache | None = None
    converted_parameters: int = 0

    @property
    def piece_parameters(self) -> int:
        """Parameters that are read and converted at one time."""
        return self.unit_parameters or self.parameters

    @property
    def active_parameters(self) -> int:
        """Parameters that one decoded token passes."""
        return self.parameters - self.idle_parameters


@dataclass(frozen=True, slots=True)
class TextGeometry:
    """The language model's sizes."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    max_context: int
    tied_embeddings: bool = False


@dataclass(frozen=True, slots=True)
class VisionGeometry:
    """The vision tower's sizes.

    `tokens_per_image` is the number of tokens that one picture adds to the prompt in the worst case
    that the processor allows by default (all tiles of anyres models); `max_tiles` the number of
    tower passes for it; `patches` the tower's sequence length per tile. `dynamic` families (Qwen-VL) turn
    every `merge` x `merge` patches into one token, so that fewer pixels mean fewer tokens. `crossing`
    families (Mllama) put no tokens into the prompt: layers of their own look at all patches of all tiles.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    image_size: int
    patch_size: int
    patches: int
    tokens_per_image: int
    max_tiles: int = 1
    dynamic: bool = False
    merge: int = 1
    crossing: bool = False


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A weight file."""

    path: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Companions:
    """What a checkpoint leans on, where a person names it: `base` for a LoRA or a bare projector, the
    `vision_tower`, the `tokenizer` (folders or files), and the conversation's `template` by its name.
    """

    base: Path | None = None
    vision_tower: Path | None = None
    tokenizer: Path | None = None
    template: str | None = None


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA that is merged into the model's weights before they are placed; `base` is the model's folder."""

    name: str
    rank: int
    nbytes: int
    base: str = ""


@dataclass(frozen=True, slots=True)
class GgufDetails:
    """What only GGUF files say, beside the precision, which is `ModelInfo.dtype` (`q4_k_m`).

    `mmproj` is the file of the picture part, `window_mask` whether its tower needs a mask of all its patches
    (Qwen2.5-VL's windows), `largest_matrix_bytes` the largest tensor of a decoder layer.
    """

    chat_template: bool
    mmproj: str | None
    largest_matrix_bytes: int
    window_mask: bool = False


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Everything that planning needs to know of a model. `modules` are in execution order.

    `weights_present` is False for copies that hold the headers of the weight files only: they can be
    planned with, not loaded. `unloadable` says why a whole checkpoint can't be loaded yet (None: it can).
    """

    path: Path
    name: str
    family: str
    architecture: str
    format: ModelFormat
    dtype: str
    parameters: int
    weights_bytes: int
    text: TextGeometry
    vision: VisionGeometry | None
    modules: tuple[Module, ...]
    files: tuple[ModelFile, ...]
    weights_present: bool = True
    unloadable: Text | None = None
    adapter: Adapter | None = None
    gguf: GgufDetails | None = None

    @property
    def active_parameters(self) -> int:
        """Parameters that one decoded token passes; less than all in a mixture of experts."""
        return sum(module.active_parameters for module in self.modules)

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return self.text.layers


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A line of the model dropdown. `key` is what commands take (`starter`, or a folder)."""

    key: str
    label: str
    path: Path
