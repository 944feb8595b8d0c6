"""What a checkpoint is, read from its config and file headers."""
