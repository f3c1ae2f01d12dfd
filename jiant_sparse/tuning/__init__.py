"""The library: any model of Hugging Face or torch, tuned by a method, saved as a delta."""
