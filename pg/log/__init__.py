"""Logging of a run: metrics, progress, HTML pages."""
