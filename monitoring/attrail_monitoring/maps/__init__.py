"""Two versions' maps of the same images, on one grid, by stratum; what a statistic is."""
