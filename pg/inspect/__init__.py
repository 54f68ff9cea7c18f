"""Inspection of data before training, for the verb `check`.

Findings, duplicates, and the report on a terminal. Imports data, pp, codecs;
the verb `check` and the page of it import this.
"""
