"""Benchmarks of techniques, the training loop, training input and start-up. Each is checked before it is timed."""
