"""Integer programs as C99, and how it is compiled and run."""
