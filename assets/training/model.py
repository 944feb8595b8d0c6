"""The network as it is trained: the same arithmetic as `LlavaForConditionalGeneration`.

Written out here, rather than taken from transformers, because packed questions need their own
attention mask and positions. Module names follow the key layout that llava-hf publishes, so the
state dict is the checkpoint; `tests/assets` compares its answers with transformers'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from assets.training.scenes import COLOURS, SHAPES
from assets.training.truth import ANCHOR, ATTRIBUTES, BACKGROUND, PATCHES, SHAPE

IMAGE_SIZE = 128
PATCH_SIZE = 16


@dataclass(frozen=True, slots=True)
class Sizes:
    """Every dimension of the network; all are multiples of 64."""

    vision_width: int = 192
    vision_mlp: int = 768
    vision_layers: int = 5
    text_width: int = 192
    text_mlp: int = 512
    text_layers: int = 6
    vocabulary: int = 1024
    head: int = 64
    context: int = 2048
    rope_theta: float = 10000.0


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention by plain products, (batch, heads, tokens, head) each.

    For these short sequences that is twice as fast in bf16 on a CPU as the fused kernel's
    backward. `mask` is added to the scores: 0 where a token may look, very negative elsewhere.
    """
    scores = (q @ k.mT) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask
    return torch.softmax(scores, -1, dtype=torch.float32).to(v.dtype) @ v


class VisionAttention(nn.Module):
    """Multi-head attention over all patches, as in CLIP."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.head = head
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) to the same shape."""
        batch, tokens, width = x.shape
        q, k, v = (
            layer(x).view(batch, tokens, -1, self.head).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = attend(q, k, v)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


class VisionMLP(nn.Module):
    """Two linear layers with quick_gelu between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape."""
        hidden = self.fc1(x)
        out: Tensor = self.fc2(hidden * torch.sigmoid(1.702 * hidden))
        return out


class VisionLayer(nn.Module):
    """One pre-norm transformer layer of CLIP."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(sizes.vision_width)
        self.self_attn = VisionAttention(sizes.vision_width, sizes.head)
        self.layer_norm2 = nn.LayerNorm(sizes.vision_width)
        self.mlp = VisionMLP(sizes.vision_width, sizes.vision_mlp)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) to the same shape."""
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class VisionEmbeddings(nn.Module):
    """Patches and the class token, with learned positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(width) * 0.02)
        self.patch_embedding = nn.Conv2d(3, width, PATCH_SIZE, PATCH_SIZE, bias=False)
        self.position_embedding = nn.Embedding(PATCHES + 1, width)
        nn.init.normal_(self.position_embedding.weight, std=0.1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, 3, 128, 128) to (batch, 65, width)."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(patches), 1, -1).to(patches.dtype)
        return torch.cat([first, patches], 1) + self.position_embedding.weight


class VisionEncoder(nn.Module):
    """The stack of layers, under the name that CLIP gives it."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(sizes) for _ in range(sizes.vision_layers))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 65, width) to the same shape."""
        for layer in self.layers:
            x = layer(x)
        return x


class VisionModel(nn.Module):
    """CLIP up to the layer whose features LLaVA uses."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(sizes.vision_width)
        self.pre_layrnorm = nn.LayerNorm(sizes.vision_width)  # the published name, typo included
        self.encoder = VisionEncoder(sizes)

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, 3, 128, 128) to patch features (batch, 64, width), class token dropped."""
        x = self.encoder(self.pre_layrnorm(self.embeddings(pixels)))
        out: Tensor = x[:, 1:]
        return out


class Projector(nn.Module):
    """LLaVA-1.5's two linear layers with an exact GELU."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(sizes.vision_width, sizes.text_width)
        self.linear_2 = nn.Linear(sizes.text_width, sizes.text_width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 64, vision width) to (batch, 64, text width)."""
        out: Tensor = self.linear_2(functional.gelu(self.linear_1(x)))
        return out


class RMSNorm(nn.Module):
    """Llama's norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Any (..., width)."""
        wide = x.float()
        out: Tensor = self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5))
        return out


class TextAttention(nn.Module):
    """Llama's attention, with the mask and rotary angles handed in."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.head = head
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """(batch, tokens, width); angles (batch, 1, tokens, head); mask (batch, 1, T, T)."""
        batch, tokens, width = x.shape
        q, k, v = (
            layer(x).view(batch, tokens, -1, self.head).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = attend(q, k, v, mask)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding in Llama's half-and-half layout."""
    left, right = x.chunk(2, -1)
    return (x * cos + torch.cat([-right, left], -1) * sin).to(x.dtype)


class TextMLP(nn.Module):
    """Llama's gated MLP."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class TextLayer(nn.Module):
    """One Llama layer."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(sizes.text_width)
        self.self_attn = TextAttention(sizes.text_width, sizes.head)
        self.post_attention_layernorm = RMSNorm(sizes.text_width)
        self.mlp = TextMLP(sizes.text_width, sizes.text_mlp)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """(batch, tokens, width) to the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class TextModel(nn.Module):
    """Llama without its output layer."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.head, self.theta = sizes.head, sizes.rope_theta
        self.embed_tokens = nn.Embedding(sizes.vocabulary, sizes.text_width)
        nn.init.normal_(self.embed_tokens.weight, std=0.25)
        self.layers = nn.ModuleList(TextLayer(sizes) for _ in range(sizes.text_layers))
        self.norm = RMSNorm(sizes.text_width)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Embeddings (batch, T, width), positions (batch, T), additive mask (batch, T, T)."""
        steps = torch.arange(0, self.head, 2, dtype=torch.float32) / self.head
        angles = positions[..., None].float() * self.theta**-steps
        angles = torch.cat([angles, angles], -1)[:, None]
        cos, sin, full = angles.cos(), angles.sin(), mask[:, None]
        for layer in self.layers:
            x = layer(x, cos, sin, full)
        out: Tensor = self.norm(x)
        return out


class LanguageModel(nn.Module):
    """Llama with its output layer."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.model = TextModel(sizes)
        self.lm_head = nn.Linear(sizes.text_width, sizes.vocabulary, bias=False)


class VisionTower(nn.Module):
    """One more level of names, as published."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.vision_model = VisionModel(sizes)


class Starter(nn.Module):
    """The whole model, plus what only training needs (`patch_head`, `interface`)."""

    def __init__(self, sizes: Sizes, seed: int = 7) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.sizes = sizes
        self.vision_tower = VisionTower(sizes)
        self.multi_modal_projector = Projector(sizes)
        self.language_model = LanguageModel(sizes)
        # Per covered patch: shape, colour (each with "none") and x, y, radius.
        self.patch_head = nn.Linear(sizes.vision_width, len(SHAPES) + len(COLOURS) + 2 + 3)
        interface, constant = make_interface(sizes.text_width, seed)
        self.register_buffer("interface", interface, persistent=False)
        self.register_buffer("constant", constant, persistent=False)
        self.interface: Tensor
        self.constant: Tensor

    def see(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pixels (batch, 3, 128, 128) to vision features and projected tokens."""
        features = self.vision_tower.vision_model(pixels)
        return features, self.multi_modal_projector(features)

    def reads(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What image tokens say, as 64 numbers, and the part of them that says nothing."""
        free = tokens.float() - self.constant
        said = free @ (self.interface / self.interface.square().sum(-1, keepdim=True)).T
        return said, free - said @ self.interface


@torch.no_grad()
def start_from_words(model: Starter, meanings: Mapping[int, Tensor]) -> None:
    """A head start for matching words with what is seen; `meanings`: token number -> 64 numbers.

    Left to chance, a model this small spends thousands of steps on finding that "red" in a
    question and red in a picture belong together. So the word starts along the direction that red
    patches have, as input and as output; and in every layer one head starts by attending from
    words to patches of that name or colour, and two start by copying what a patch says.
    """
    language = model.language_model
    directions = functional.normalize(model.interface, dim=-1)
    for token, meaning in meanings.items():
        direction = functional.normalize(meaning @ directions, dim=0)
        language.model.embed_tokens.weight[token] *= 0.4
        language.model.embed_tokens.weight[token] += 3.0 * direction
        language.lm_head.weight[token] += 0.4 * direction
    head = model.sizes.head
    # Rotary angles hardly turn the slow half of a head's numbers over the length of a picture.
    slow = [*range(head // 4, head // 2), *range(3 * head // 4, head)]
    names = directions[SHAPE : SHAPE + len(SHAPES) + len(COLOURS)]
    for layer in language.model.layers:
        assert isinstance(layer, TextLayer)
        attention = layer.self_attn
        for matrix in (attention.q_proj.weight, attention.k_proj.weight):
            matrix[:head] *= 0.1
            matrix[slow[: len(names)]] += 0.9 * names
        for first in (0, head):
            attention.v_proj.weight[first : first + head] = directions
            attention.o_proj.weight[:, first : first + head] = 0.4 * directions.T


def make_interface(width: int, seed: int) -> tuple[Tensor, Tensor]:
    """A fixed (64 numbers, width) dictionary of orthogonal directions, and a constant (width).

    Stage A teaches the vision tower to produce `attributes @ dictionary + constant`, and
    `start_from_words` tells the text model what these directions mean. Anchors are loud, since
    counting needs them; the background is faint
    and the constant keeps empty patches from being blown up by the first norm: otherwise they,
    being nine in ten, drown the shapes.
    """
    noise = torch.randn(width, ATTRIBUTES + 1, generator=torch.Generator().manual_seed(seed))
    basis, _ = torch.linalg.qr(noise)
    rows = 1.5 * basis.T.contiguous()
    rows[BACKGROUND:ATTRIBUTES] *= 0.25
    rows[ANCHOR] *= 2.5
    return rows[:ATTRIBUTES], rows[ATTRIBUTES] * (2.5 / 1.5)
