"""Talking with original LLaVA checkpoints: their tokenizer, formats of conversations and pictures."""
