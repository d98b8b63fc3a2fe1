"""The checks of explanations, one file each; the file's name is the check's name and ``CHECK`` is its class."""
