"""Captures of real traffic, the scenes that they show, and what records them."""
