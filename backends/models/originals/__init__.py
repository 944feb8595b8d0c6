"""Checkpoints in their authors' own layouts, read as what transformers would have them be."""
