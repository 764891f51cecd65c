"""Models that judge answers: who they are, how they are asked, and what it costs."""
