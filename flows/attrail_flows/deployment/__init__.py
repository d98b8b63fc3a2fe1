"""Deployments, work pool, runs that fell silent, the receiver of webhooks."""
