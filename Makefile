PYTHON ?= python3
.PHONY: demo test test-fast check locks clean

demo:  ## the whole loop in a toy world, in environments made for it
	$(PYTHON) -m capcurr_plugin.environments core
	.envs/core/bin/capcurr demo

test:  ## every test, each in the environment of its host
	$(PYTHON) scripts/run_tests.py $(ARGS)

test-fast:  ## the tests that take seconds: make test-fast ARGS="--env core -k rows"
	$(PYTHON) scripts/run_tests.py --fast $(ARGS)

check:  ## lint, format and types
	$(PYTHON) scripts/check.py

locks:  ## resolve the environments anew
	$(PYTHON) -m capcurr_plugin.environments --lock $(ARGS)

clean:  ## remove the environments
	rm -rf .envs
