"""Implementations of the Engine protocol; imported only inside the worker's child process."""
