"""Handing out stages to workers."""
