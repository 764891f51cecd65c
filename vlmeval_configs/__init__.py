"""Aliases for VLMEvalKit. YAML only."""
