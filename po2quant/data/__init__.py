"""Data sets in files: archives, arrays, sounds and pictures, read within budgets; splits that a seed repeats."""
