"""HTML: the report, the predictions, the check, and the parts they share.

Imported by the verbs and pg/log/run.py only.
"""
