"""The child process that holds a model, and the client that talks to it."""
