"""Scoring checkpoints with VLMEvalKit, as far as it needs no VLMEvalKit in the process."""
