"""The layer that says "where", found by noise and checked; activations and attention."""
