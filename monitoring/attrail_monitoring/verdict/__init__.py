"""Measure, judge under a policy, combine."""
