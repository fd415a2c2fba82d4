"""Tuning with equal budgets: the space, the list of trials, the choice. Pure: no rows, no plans, no torch."""
