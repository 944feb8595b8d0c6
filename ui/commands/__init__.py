"""One command of the command line a module: `add` its arguments, `run` it."""
