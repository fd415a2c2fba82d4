"""CUDA without a GPU: real steps of real recipes on fake CUDA tensors. docs/cuda.md says what this shows and what
not."""
