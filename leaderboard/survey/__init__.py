"""The rows of the survey, Ganesh et al. 2021, measured: sizes, costs, claims."""
