"""How fast things are here: techniques, the loop, training input, the start. Each checked before it is timed."""
