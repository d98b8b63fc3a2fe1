"""The statistics of decisions, one file each; the file's name is the statistic's name, ``STATISTIC`` is its class."""
