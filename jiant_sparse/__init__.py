"""Sparse fine-tuning of pretrained encoders: every way of choosing weights, one fair protocol."""

__version__ = "0.1.0"
