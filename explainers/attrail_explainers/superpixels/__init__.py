"""Superpixels, coalitions, masked evaluations, the emulator, games."""
