"""verl on a CPU: for development, tests and the demo, never for a real model. `VERL_PLATFORM=cpu` switches it on."""
