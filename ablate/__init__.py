"""Ablation experiments on image and video VAEs."""

__version__ = "0.1.0"
