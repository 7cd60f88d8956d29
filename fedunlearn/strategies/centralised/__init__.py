"""Comparators made for one machine, carried into the federation: the target works on its forget set, others on theirs."""
