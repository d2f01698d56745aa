"""Stages to workers."""
