"""Budgets of accuracy: which profiles the clips show to be within one."""
