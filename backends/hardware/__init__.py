"""What the machine has, as values and as detected now."""
