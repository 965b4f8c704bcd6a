"""The one door through which pixels come in."""
