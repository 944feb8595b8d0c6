"""CogVLM's decode step beside that of a plain Llama of the same text width, depth and heads, in one run.

Random weights of about a billion parameters that a word passes, fp32 on the CPU, rounds in turns.

    python -m benchmarks.cogvlm_decode
"""

from __future__ import annotations

import statistics
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from backends.engines.devices import use_physical_cores
from backends.engines.kv import empty_cache
from backends.engines.originals.cogvlm.configuration import CogVLMConfig
from backends.engines.originals.cogvlm.decoder import CogVLMRotary
from backends.engines.originals.cogvlm.modeling import CogVLMForCausalLM
from benchmarks.report import Row, publish

_TEXT = {
    "vocab_size": 8192,
    "hidden_size": 2048,
    "intermediate_size": 5504,
    "num_hidden_layers": 20,
    "num_attention_heads": 16,
}
_TOWER = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_heads": 2,
    "num_positions": 17,
    "image_size": 56,
    "patch_size": 14,
}
_PROMPT, _ROUNDS, _STEPS = 64, 9, 4
_BLOCK = 1 << 20
_GOAL = 1.1


def made(kind: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """A model of small random weights. Those that no word passes are never touched, and take no RAM."""
    with torch.device("meta"):
        model = kind(config)
    model.to_empty(device="cpu")
    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0)) * 0.02
    for name, value in model.named_parameters():
        if "vision" in name:
            continue
        flat = value.data.view(-1)
        for start in range(0, flat.numel(), _BLOCK):
            part = flat[start : start + _BLOCK]
            part.copy_(block[: part.numel()])
        if value.ndim == 1:
            value.data.fill_(1.0)
    for module in model.modules():
        if isinstance(module, CogVLMRotary):
            module.inv_freq.copy_(module.frequencies())
        elif isinstance(module, LlamaRotaryEmbedding):
            LlamaRotaryEmbedding.__init__(module, config)  # its frequencies are made there
    return model.eval()


class Decoder:
    """A model behind a prompt of words."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._kv = empty_cache(model.config, _PROMPT + (_ROUNDS + 1) * _STEPS)
        self._model(input_ids=torch.ones(1, _PROMPT, dtype=torch.long), past_key_values=self._kv)

    def seconds(self) -> float:
        """Of one step, the mean of a round."""
        begun = time.perf_counter()
        for _ in range(_STEPS):
            place = torch.tensor([[self._kv.get_seq_length()]])
            self._model(
                input_ids=torch.tensor([[7]]),
                position_ids=place,
                past_key_values=self._kv,
                use_cache=True,
                logits_to_keep=1,
            )
        return (time.perf_counter() - begun) / _STEPS


@torch.inference_mode()
def main() -> None:
    use_physical_cores()
    cogvlm = Decoder(made(CogVLMForCausalLM, CogVLMConfig(**_TEXT, vision_config=_TOWER)))
    llama = Decoder(made(LlamaForCausalLM, LlamaConfig(**_TEXT, tie_word_embeddings=False)))
    cogvlm.seconds(), llama.seconds()
    rounds = [(cogvlm.seconds(), llama.seconds()) for _ in range(_ROUNDS)]
    ratio = statistics.median(ours / theirs for ours, theirs in rounds)
    ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    publish(
        "cogvlm_decode",
        [
            Row("CogVLM, a word", f"{ours * 1000:.0f} ms"),
            Row("plain Llama of the same width and depth, a word", f"{theirs * 1000:.0f} ms"),
            Row("their ratio, median of rounds", f"{ratio:.3f}", f"<= {_GOAL}", ratio <= _GOAL),
        ],
        {"rounds_s": rounds, "shape": _TEXT},
    )


if __name__ == "__main__":
    main()
