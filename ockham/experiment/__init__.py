"""Experiments and their reports. A leaf: nothing in the core imports it."""
