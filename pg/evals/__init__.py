"""Evaluators: settings, runs, records, confidence intervals, submissions.

The machinery; metrics/ has the scores. Imported by the verbs and log.
"""
