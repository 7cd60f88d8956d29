"""Comparators that are federated in their own papers, each one file."""
