"""Skyline's leaderboard: boards over records and published tables, their statistics, tables and page.

Packages, each importing only those before it: `published_tables` (the papers' own tables), `boards` (rows, ranks,
fronts), `tables` (one model of a table and its renderers), `survey` (Ganesh et al. 2021 measured again), `findings`
(papers' findings tried on the records), `site` (the page); and `registry`, which names all boards and tables.
"""
