"""CogVLM and CogVLM2: experts for pictures in every layer, as a class of today's transformers."""
