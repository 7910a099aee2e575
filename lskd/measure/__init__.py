"""Measurements on features, logits and labels: η and others."""
