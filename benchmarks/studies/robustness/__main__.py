"""``python -m benchmarks.studies.robustness``, see :mod:`benchmarks.studies.robustness.command`."""

from benchmarks.studies.robustness.command import main

if __name__ == "__main__":
    main()
