"""Drift: how far the applicants of today differ from those of the training data."""
