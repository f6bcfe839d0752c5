"""Reports of runs: one HTML file that shows and compares them."""
