# `make book` and `make test` are complete on a fresh machine: each makes .venv, installs what it needs, does the job.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: book test serve lint links bench experiments notebooks colab-check stamp clean
.DEFAULT_GOAL := book

.venv/.complete: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "installing requirements.txt into .venv (about a minute, 1.8 GB) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

book: .venv/.complete
	$(BIN)/python tools/build.py

test: book
	$(BIN)/python tools/test.py

serve: book
	@echo "The book is at http://127.0.0.1:8000/ (Ctrl-C stops)"
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

lint: .venv/.complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/stamp.py --check

links: .venv/.complete
	$(BIN)/jupyter-book config sphinx .
	PYTHONPATH=ext $(BIN)/sphinx-build -q -b linkcheck -D nb_execution_mode=off -D suppress_warnings=ledger,myst-nb.lexer . _build/links

bench: .venv/.complete
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

experiments: .venv/.complete
	@for script in $(filter-out %/record.py %/closure.py,$(wildcard experiments/*.py)); do \
		OMP_NUM_THREADS=1 $(BIN)/python $$script $(if $(CONFIRM),--confirm) || exit 1; \
	done

notebooks: .venv/.complete
	$(BIN)/python tools/notebooks.py

colab-check: .venv/.complete
	$(BIN)/python tools/colab_check.py

stamp: .venv/.complete
	$(BIN)/python tools/stamp.py

clean:
	rm -rf _build .venv .venv-colab
