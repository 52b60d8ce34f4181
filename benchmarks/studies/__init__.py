"""What measures: each module writes a file below ``benchmarks/results`` and says with which command."""
