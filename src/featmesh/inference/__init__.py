"""Analysis by synthesis: locate -> scan -> refine -> describe."""
