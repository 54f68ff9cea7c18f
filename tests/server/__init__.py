"""Tests of pg/server."""
