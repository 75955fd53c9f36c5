"""Measuring the models."""
