"""The GGUF file of a language model: its metadata and where each of its tensors comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.conversion.positions import rotary_positions
from backends.conversion.refusal import LANGUAGE, lacking, refused
from backends.conversion.types import Document, Piece, Value, WeightType
from backends.models.checkpoint import read_json_if_there

# transformers' type of a language model -> llama.cpp's architecture. Mistral is a Llama with a window.
_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}
# Of these, the q and k rows are stored for interleaved rotary positions.
_INTERLEAVED = frozenset({"llama"})
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
# llama.cpp's numbers for "mostly of this type".
_FILE_TYPES = {WeightType.F32: 0, WeightType.F16: 1, WeightType.Q4_0: 2, WeightType.Q8_0: 7}
_QUANTIZATION_VERSION = 2

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Language:
    """A checkpoint's language model. `shapes` are by the names in the loaded model.

    `config` is the part for the language model, completed by its class's defaults; `root` is where it
    begins (`model.` or `model.language_model.`), `tied` whether the head is the embedding.
    """

    folder: Path
    name: str
    config: Mapping[str, Any]
    shapes: Shapes
    root: str
    tied: bool

    @property
    def architecture(self) -> str:
        """llama.cpp's name. Raises ModelUnsupported for others than Llama, Mistral and Qwen2."""
        family = self.config.get("model_type")
        found = _ARCHITECTURES.get(family) if isinstance(family, str) else None
        if found is None:
            raise refused(self.folder, LANGUAGE, family)
        return found

    @property
    def heads(self) -> tuple[int, int]:
        """Heads of queries, and of keys and values."""
        queries = int(self.config["num_attention_heads"])
        return queries, int(self.config.get("num_key_value_heads") or queries)

    @property
    def head_dim(self) -> int:
        """Numbers of a head."""
        stated = self.config.get("head_dim")
        return int(stated) if stated else int(self.config["hidden_size"]) // self.heads[0]

    @property
    def embedding(self) -> tuple[int, ...]:
        """Words (as many as the table has rows) and numbers of each."""
        return self.shapes[f"{self.root}embed_tokens.weight"]


def language_document(model: Language, kind: WeightType, vocabulary: Mapping[str, Value]) -> Document:
    """Describe the file of `model` with matrices of `kind`; `vocabulary` is the tokenizer's metadata.

    Raises ModelUnsupported for what llama.cpp has no form for, ModelDamaged when a tensor is missing.
    """
    architecture = model.architecture
    positions = rotary_positions(model.folder, model.config, model.head_dim)
    if model.config.get("hidden_act", "silu") != "silu":
        raise refused(model.folder, LANGUAGE, model.config["hidden_act"])
    pieces = list(_pieces(model, kind, interleaved=architecture in _INTERLEAVED))
    if positions.divisors:
        shape = (len(positions.divisors),)
        pieces.append(Piece("rope_freqs.weight", shape, WeightType.F32, values=positions.divisors))
    values: dict[str, Value] = {
        "general.name": model.name,
        "general.type": "model",
        "general.file_type": _FILE_TYPES[kind],
        "general.quantization_version": _QUANTIZATION_VERSION,
        **_sampling(model.folder),
    }
    below = _sizes(model) | {f"rope.{key}": value for key, value in positions.values.items()}
    return Document(
        architecture,
        values | {f"{architecture}.{key}": value for key, value in below.items()} | dict(vocabulary),
        tuple(pieces),
    )


def _sampling(folder: Path) -> dict[str, Value]:
    """What the checkpoint asks for at every answer: its penalty on words that were said before."""
    penalty = read_json_if_there(folder / "generation_config.json").get("repetition_penalty")
    if isinstance(penalty, bool) or not isinstance(penalty, int | float) or penalty <= 0 or penalty == 1:
        return {}
    return {"general.sampling.penalty_repeat": float(penalty)}


def _sizes(model: Language) -> dict[str, Value]:
    config, (queries, keys) = model.config, model.heads
    words, hidden = model.embedding
    return {
        "block_count": int(config["num_hidden_layers"]),
        "context_length": _context(config),
        "embedding_length": hidden,
        "feed_forward_length": int(config["intermediate_size"]),
        "vocab_size": words,
        "attention.head_count": queries,
        "attention.head_count_kv": keys,
        "attention.key_length": model.head_dim,
        "attention.value_length": model.head_dim,
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
    }


def _context(config: Mapping[str, Any]) -> int:
    """Tokens of context. llama.cpp knows no window in these architectures: the window is the limit then."""
    window, whole = config.get("sliding_window"), int(config["max_position_embeddings"])
    if config.get("model_type") == "qwen2" and not config.get("use_sliding_window"):
        window = None
    return min(whole, window) if isinstance(window, int) and window > 0 else whole


def _pieces(model: Language, kind: WeightType, *, interleaved: bool) -> Iterator[Piece]:
    queries, keys = model.heads
    piece = _maker(model)
    head = "lm_head.weight"
    tied = model.tied or head not in model.shapes
    if tied and not model.tied and not model.config.get("tie_word_embeddings"):
        raise lacking(model.folder, head, "*.safetensors")
    # As the head decides on every word, it is kept at 8 bits in a file of 4 (llama.cpp: 6).
    best = WeightType.Q8_0 if kind is WeightType.Q4_0 else kind
    yield piece(f"{model.root}embed_tokens.weight", "token_embd.weight", best if tied else kind, 0)
    for layer in range(int(model.config["num_hidden_layers"])):
        for old, new in _LAYER.items():
            heads = {"attn_q": queries, "attn_k": keys}.get(new, 0) if interleaved else 0
            source, target = f"{model.root}layers.{layer}.{old}", f"blk.{layer}.{new}"
            yield piece(f"{source}.weight", f"{target}.weight", kind, heads)
            if f"{source}.bias" in model.shapes:
                yield piece(f"{source}.bias", f"{target}.bias", kind, heads)
    yield piece(f"{model.root}norm.weight", "output_norm.weight", kind, 0)
    if not tied:
        yield piece(head, "output.weight", best, 0)


def _maker(model: Language) -> Callable[[str, str, WeightType, int], Piece]:
    def make(source: str, name: str, kind: WeightType, heads: int) -> Piece:
        shape = model.shapes.get(source)
        if shape is None:
            raise lacking(model.folder, source, "*.safetensors")
        return Piece(name, shape, fitting(kind, shape), source, heads=heads)

    return make


def fitting(kind: WeightType, shape: tuple[int, ...]) -> WeightType:
    """The type that a tensor of `shape` is written in: vectors stay whole, and odd rows 16 bits wide."""
    if len(shape) == 1:
        return WeightType.F32
    return kind if len(shape) == 2 and shape[1] % kind.block == 0 else _unblocked(kind)


def _unblocked(kind: WeightType) -> WeightType:
    return kind if kind.block == 1 else WeightType.F16
