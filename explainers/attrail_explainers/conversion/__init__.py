"""A pickled module becomes an exported program: loaded once, in a confined process, of which files alone come back."""
