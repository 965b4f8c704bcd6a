"""Predict every record, then score the file."""
