"""What an exhibit is, and what it looks at: versions layer by layer, their graphs and weights."""
