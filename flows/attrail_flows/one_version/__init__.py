"""Asked of one version, without Prefect: explain, check, windows, baseline, convert, inspect."""
