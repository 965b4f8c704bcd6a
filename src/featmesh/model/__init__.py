"""What is learnt, and what a model folder holds."""
