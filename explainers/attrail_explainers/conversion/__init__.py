"""A pickled module becomes an exported program: loaded once, in a confined process."""
