# make test            lint, types, tests and doctests
# make demo            pretrain on a small set and see what was learned
# make demo DATA=DIR   the same on a folder of images
# make docs            both languages, in docs/_build/en and docs/_build/zh_CN
# make links           ask whether every address in the documentation still answers
#
# All first install into .venv when that was not done yet, or when what is
# to be installed changed.

PYTHON3 ?= python3
VENV ?= .venv
PYTHON = $(VENV)/bin/python
INSTALLED = $(VENV)/installed

.PHONY: demo test lint docs links venv clean

demo: venv
	$(PYTHON) tools/demo.py $(if $(DATA),--data "$(DATA)") $(if $(DATASET),--dataset $(DATASET))

# Neighbors stay together as long as both workers have some: they share what
# their file builds.
test: lint
	$(PYTHON) -m pytest -n auto --maxprocesses 8 --dist worksteal

lint: venv
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

docs: venv
	for language in en zh_CN; do \
		$(PYTHON) -m sphinx -q -W --keep-going -c docs -D language=$$language \
			docs/$$language docs/_build/$$language || exit 1; \
	done

links: venv
	for language in en zh_CN; do \
		$(PYTHON) -m sphinx -q -b linkcheck -c docs -D language=$$language \
			docs/$$language docs/_build/links/$$language || exit 1; \
	done

venv: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON3) -m venv $(VENV)
	$(PYTHON) -m pip install -c constraints.txt \
		-e '.[onedl,onedl-downstream,demo,tests,lint,docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist docs/_build swav_plugin.egg-info .pytest_cache .mypy_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
