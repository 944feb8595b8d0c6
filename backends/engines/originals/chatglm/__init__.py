"""ChatGLM3: its words, and its way to write conversations."""

from backends.engines.originals.chatglm.speaking import voice

__all__ = ["voice"]
