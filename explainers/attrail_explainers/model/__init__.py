"""A model as it is run: loaded, copied privately, in batches, with its places."""
