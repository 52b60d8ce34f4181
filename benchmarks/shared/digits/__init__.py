"""What the tasks of handwritten digits have in common."""
