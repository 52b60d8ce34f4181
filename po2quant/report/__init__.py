"""Tables and pictures from results and run folders."""
