"""What versions decided on the same images, and the statistics of it, one file each."""
