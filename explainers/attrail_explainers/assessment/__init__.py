"""Does the explanation hold: what a check is, and what it may ask."""
