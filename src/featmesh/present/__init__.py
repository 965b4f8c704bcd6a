"""Pictures and pages people look at; Pillow only."""
