"""The exhibits, one file each; the file's name is the exhibit's name and ``EXHIBIT`` is its class."""
