"""Plain statistics: arrays in, numbers out, a paper each; knows no map."""
