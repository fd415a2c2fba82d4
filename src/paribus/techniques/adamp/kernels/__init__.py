"""The fast forms of a step that may project: batched torch operations, a C kernel, Triton kernels.

What is computed is defined by the readable reference in techniques/adamp/__init__.py, and
tests/parity/test_adamp_ways.py tests every form against it. `dispatch.py` chooses the form; `params.py` defines what
each is given.
"""
