"""Talking with checkpoints in their authors' own layouts: their words, pictures and formats."""
