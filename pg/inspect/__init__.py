"""What is wrong with data, found before training: the room behind `check`.

Findings, duplicates, and the report on a terminal. Imports data, pp, codecs;
the verb `check` and the page of it import this.
"""
