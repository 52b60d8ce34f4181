"""Wrong files, wrong options and kills: what becomes of them."""
