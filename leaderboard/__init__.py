"""Skyline's leaderboard: boards over records and published tables, their statistics, tables and page.

Each package imports only the packages before it: `published_tables` (the papers' own tables), `boards` (rows, ranks,
fronts), `tables` (one model of a table and its renderers), `survey` (the rows of Ganesh et al. 2021, measured),
`findings` (the papers' findings, tested on the records), `site` (charts, page). `registry` lists all boards and tables.
"""
