"""Evaluators: what one is, how it is run, what is kept, how sure it is.

The machinery; metrics/ has the scores. Imported by the verbs and log.
"""
