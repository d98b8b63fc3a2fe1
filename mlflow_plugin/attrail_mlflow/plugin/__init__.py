"""What MLflow's entry points name, one file each: the whole plug-in surface on one page."""
