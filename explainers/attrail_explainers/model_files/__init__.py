"""A model's file, checked before it is loaded, and the digests that say what it computes."""
