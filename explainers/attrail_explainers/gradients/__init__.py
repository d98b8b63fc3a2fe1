"""Gradients of the target's logit, and backward rules."""
