"""Labelled photos: files, generated views, occluders."""
