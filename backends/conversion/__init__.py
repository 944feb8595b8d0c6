"""Writes a safetensors checkpoint anew as GGUF files for llama.cpp: no torch, one chunk of rows at a time."""
