"""What the process is told: memory, BLAS, torch's threads, GPUs."""
