"""Ganesh et al. 2021 measured again: sizes, costs, claims."""
