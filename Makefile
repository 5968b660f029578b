.PHONY: setup demo down test test-chaos lint bench docs lock
ARGS ?=

setup:
	@scripts/setup

demo: setup
	@scripts/demo $(ARGS)

down:
	@scripts/down

test: setup
	@scripts/test $(ARGS)

lint: setup
	@scripts/lint

lock:
	@scripts/lock

test-chaos: setup
	@scripts/test-chaos $(ARGS)

bench: setup
	@scripts/bench $(ARGS)

docs: setup
	@scripts/docs $(ARGS)
