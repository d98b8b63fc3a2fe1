"""The t-prediction bound: what one more model exceeds with a given probability (Hahn & Meeker 1991, ch. 4)."""

FEWEST = 4
