"""Programs around the method."""
