"""Which images with which labels: tables and class folders, read and checked row by row."""
