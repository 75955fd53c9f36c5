"""Fuzzing: what comes from strangers (files, texts, other nodes' values) as many made-up inputs.

``python -m tests.fuzz`` lists the targets; ``python -m tests.fuzz rules --count 100000 --seed 1`` runs one.
"""
