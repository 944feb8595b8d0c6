"""CogVLM and CogVLM2: experts for pictures in every layer, as a class of today's transformers."""

from backends.engines.originals.cogvlm.speaking import voice

__all__ = ["voice"]
