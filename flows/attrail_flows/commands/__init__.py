"""The command line, one file per group; what is printed; one table of exit statuses."""
