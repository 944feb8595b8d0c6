"""Pure decisions: which part of a model goes where, what it costs, how fast it is."""
