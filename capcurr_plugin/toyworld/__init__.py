"""A small world of which everything is known, and a model small enough to learn it on a laptop's CPU."""
