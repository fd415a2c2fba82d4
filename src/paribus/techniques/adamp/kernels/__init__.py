"""The fast forms of a step that may project: batched torch operations, a C kernel, Triton kernels.

What is computed is defined by the readable reference in techniques/adamp/__init__.py, and
tests/parity/test_adamp_ways.py ties every form to it. `ways.py` chooses the form; `leaves.py` says what each is given.
"""
