"""The statistics, one file each; the file's name is the statistic's name and ``STATISTIC`` is its class."""
