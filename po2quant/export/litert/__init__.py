"""Integer programs as LiteRT files."""
