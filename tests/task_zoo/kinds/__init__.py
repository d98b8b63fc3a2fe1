"""The kinds of models, one file for each task, which exports a ``Kind`` as ``KIND``."""
