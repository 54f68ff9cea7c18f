"""One file for each format of rows, and what only they share.

numpy only, no jax: they run in data workers. `pg.data.source` names them.
"""
