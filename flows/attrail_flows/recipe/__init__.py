"""A recipe's code: found and read without running it, then run with a seed."""
