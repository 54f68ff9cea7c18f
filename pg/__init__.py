"""PaliGemma in JAX: `python -m pg.train`, `pg.evaluate`, `pg.predict`, ..."""
