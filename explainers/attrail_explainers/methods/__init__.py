"""The explainers, one file each; the file's name is the explainer's name and ``METHOD`` is its class."""
