"""Makers of models, records, rows and processes for the tests."""
