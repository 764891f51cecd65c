"""Hydra finds the config group `capcurr` here; a package, because Hydra's `pkg://` reads only those. YAML only."""
