"""From labelled photos to a category model."""
