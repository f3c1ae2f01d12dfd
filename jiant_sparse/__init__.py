"""Sparse fine-tuning of pretrained encoders: every way of choosing weights, one fair protocol."""
