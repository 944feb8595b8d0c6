"""Tiny random GGUF models that llama.cpp really runs, with a byte-level vocabulary and a picture part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
VOCAB, HIDDEN, HEADS, KV_HEADS, FEED, LAYERS = 320, 64, 4, 2, 128, 2
SIDE, PATCH, WIDTH, PICTURE_TOKENS = 32, 8, 32, 16
MERGES = (("t", "h"), ("th", "e"), ("i", "n"), ("e", "r"), ("Ġ", "the"), ("r", "e"), ("re", "d"), ("o", "u"))
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
END = SPECIALS.index("<|im_end|>")


def words() -> list[str]:
    """The vocabulary: markup, 256 bytes as letters, what merges make, padding."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {b: chr(256 + n) for n, b in enumerate(rest)}
    found = [*SPECIALS, *(letters[byte] for byte in range(256)), *("".join(pair) for pair in MERGES)]
    return [*found, *(f"[PAD{index}]" for index in range(VOCAB - len(found)))]


def write_text(
    path: Path,
    *,
    template: str | None = CHATML,
    endless: bool = False,
    context: int = 2048,
    says: str | None = None,
    tokens: list[str] | None = None,
    change: Callable[[gguf.GGUFWriter], None] = lambda _: None,
    seed: int = 3,
) -> Path:
    """A Llama of two layers. `endless` never ends an answer; `says` repeats the bytes of a text for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(seed)

    def matrix(*shape: int) -> NDArray[np.float32]:
        return chance.normal(0.0, 0.12, shape).astype(np.float32)

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(context)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(0)
    listed = tokens or words()
    kinds = [3] * len(SPECIALS) + [1] * (256 + len(MERGES))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(listed)
    writer.add_token_types([*kinds, *([5] * (len(listed) - len(kinds)))])
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_eos_token_id(END)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)  # noqa: FBT003 - the library's signature
    if template is not None:
        writer.add_chat_template(template)
    change(writer)
    head = matrix(VOCAB, HIDDEN)
    # Tokens that no answer should hold have logits of nought, which are never the largest.
    spoken = [index for index in range(len(SPECIALS), len(SPECIALS) + 256) if listed[index].isascii()]
    silent = sorted(set(range(VOCAB)) - {*spoken, END} | ({END} if endless else set()))
    head[silent] = 0.0
    embedding = matrix(VOCAB, HIDDEN)
    if says is not None:
        embedding, head = _repeating(says)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    writer.add_tensor("output.weight", head)
    for layer in range(LAYERS):
        block, quiet = f"blk.{layer}", 0.0 if says is not None else 1.0
        keys = HIDDEN // HEADS * KV_HEADS
        for name, shape in (
            ("attn_q", (HIDDEN, HIDDEN)),
            ("attn_k", (keys, HIDDEN)),
            ("attn_v", (keys, HIDDEN)),
            ("attn_output", (HIDDEN, HIDDEN)),
            ("ffn_gate", (FEED, HIDDEN)),
            ("ffn_up", (FEED, HIDDEN)),
            ("ffn_down", (HIDDEN, FEED)),
        ):
            writer.add_tensor(f"{block}.{name}.weight", matrix(*shape) * np.float32(quiet))
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{name}.weight", np.ones(HIDDEN, np.float32))
    return _written(writer, path)


def split(whole: Path, folder: Path) -> tuple[Path, Path]:
    """The same model in two parts, as llama.cpp's own tool writes them: metadata in the first one only."""
    reader = gguf.GGUFReader(whole)
    names = [tensor.name for tensor in reader.tensors]
    folder.mkdir(parents=True, exist_ok=True)
    first, second = (folder / f"pear-{number:05}-of-00002.gguf" for number in (1, 2))
    for number, (path, chosen) in enumerate(((first, names[:5]), (second, names[5:]))):
        writer = gguf.GGUFWriter(path, "llama")
        for field in reader.fields.values() if number == 0 else ():
            if field.name.startswith("GGUF.") or field.name == "general.architecture":
                continue
            sub = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(names))
        for tensor in reader.tensors:
            if tensor.name in chosen:
                writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return first, second


def _repeating(text: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embedding and head of a model that says the bytes of `text` (each once in it) one after the other."""
    ids = [len(SPECIALS) + byte for byte in text.encode()]
    assert len(set(ids)) == len(ids) < HIDDEN - 1
    embedding = np.zeros((VOCAB, HIDDEN), np.float32)
    head = np.zeros((VOCAB, HIDDEN), np.float32)
    embedding[:, HIDDEN - 1] = 1.0  # every other token begins the text
    head[ids[0], HIDDEN - 1] = 1.0
    for place, token in enumerate(ids):
        embedding[token] = 0.0
        embedding[token, place] = 1.0
        head[ids[(place + 1) % len(ids)], place] = 1.0
    return embedding, head


def write_eyes(
    path: Path, *, width: int = HIDDEN, layers: int = 2, seed: int = 5, tiles: Sequence[int] = ()
) -> Path:
    """A CLIP tower without a class token and LLaVA's projector: 16 tokens a picture, or a tile of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(seed)

    def matrix(*shape: int) -> NDArray[np.float32]:
        return chance.normal(0.0, 0.2, shape).astype(np.float32)

    writer = gguf.GGUFWriter(path, "clip")
    writer.add_bool("clip.has_vision_encoder", True)  # noqa: FBT003
    writer.add_bool("clip.has_llava_projector", True)  # noqa: FBT003
    writer.add_string("clip.projector_type", "mlp")
    sizes: dict[str, Any] = {
        "image_size": SIDE,
        "patch_size": PATCH,
        "embedding_length": WIDTH,
        "feed_forward_length": 2 * WIDTH,
        "projection_dim": width,
        "block_count": layers,
        "attention.head_count": 2,
    }
    for key, size in sizes.items():
        writer.add_uint32(f"clip.vision.{key}", size)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    if tiles:
        writer.add_array("clip.vision.image_grid_pinpoints", list(tiles))
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    writer.add_bool("clip.use_gelu", False)  # noqa: FBT003
    writer.add_file_type(0)
    tensors: dict[str, NDArray[np.float32]] = {
        "v.patch_embd.weight": matrix(WIDTH, 3, PATCH, PATCH),
        "v.position_embd.weight": matrix((SIDE // PATCH) ** 2, WIDTH),
        "mm.0.weight": matrix(width, WIDTH),
        "mm.0.bias": matrix(width),
        "mm.2.weight": matrix(width, width),
        "mm.2.bias": matrix(width),
    }
    for layer in range(layers):
        block = f"v.blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            tensors |= {f"{block}.{name}.weight": matrix(WIDTH, WIDTH), f"{block}.{name}.bias": matrix(WIDTH)}
        for name, out, inner in (("ffn_up", 2 * WIDTH, WIDTH), ("ffn_down", WIDTH, 2 * WIDTH)):
            tensors |= {f"{block}.{name}.weight": matrix(out, inner), f"{block}.{name}.bias": matrix(out)}
        for name in ("ln1", "ln2"):
            tensors |= {
                f"{block}.{name}.weight": np.ones(WIDTH, np.float32),
                f"{block}.{name}.bias": matrix(WIDTH),
            }
    tensors |= {"v.pre_ln.weight": np.ones(WIDTH, np.float32), "v.pre_ln.bias": matrix(WIDTH)}
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    return _written(writer, path)


def _written(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
