"""The benchmarks: one package a task, each with its models, data and training recipe."""
