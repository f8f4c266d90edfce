# The commands of the project. They need Python 3.11 or newer, make and a C compiler; everything else is installed into .venv.
.PHONY: demo serve test reliability vllm-next bench check docs openapi lock setup setup-demo
BIN := .venv/bin
ARGS ?=
RESOLVE := uv pip compile pyproject.toml --universal --python-version 3.11 --no-annotate --no-header --quiet

demo: setup-demo  ## run a sweep over the bundled model and plot it; ARGS=--keep leaves the server running, --chaos kills the engine
	@$(BIN)/python -m examples.demo $(ARGS)

serve: setup-demo  ## start a server with the bundled model; ARGS takes the options of `ampsweep serve`
	@$(BIN)/ampsweep serve $(ARGS)

test: export PYTHONDONTWRITEBYTECODE :=
test: setup  ## run the fast tests, then those that start servers and Ray, then those that start vLLM
	@$(BIN)/pytest -q -n auto --dist worksteal -m "not processes and not engine and not reliability" $(ARGS)
	@$(BIN)/pytest -q -n auto --dist worksteal -m "processes and not reliability" $(ARGS)
	@$(BIN)/pytest -q -n auto --maxprocesses 2 --dist loadfile -m "engine and not reliability" $(ARGS)

reliability: setup  ## run the tests that kill processes and fill disks, many times, and property tests on many examples
	@$(BIN)/pytest -q -m reliability $(ARGS)
	@$(BIN)/pytest -q -n auto -m "hypothesis and not engine and not reliability" --hypothesis-profile thorough --timeout 1800

vllm-next: setup  ## run the compatibility tests with another vLLM release, outside .venv; VERSION=x.y.z
	@PYTHON="$(BIN)/python" requirements/vllm-next.sh "$(VERSION)"

bench: setup  ## measure what steering, scoring and recording cost, and write docs/benchmarks.md; ARGS="--rounds 3"
	@$(BIN)/python -m benchmarks.throughput --docs docs/benchmarks.md $(ARGS)

check: setup  ## check format, lint, spelling, types, import directions and declared dependencies
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/codespell
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry .

docs: setup  ## build the documentation as a site that opens offline: out/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

openapi: setup  ## write docs/openapi.json, which a test compares with the routes
	@$(BIN)/python -m api >docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json

setup: .venv/installed-cpu  ## install everything, for tests and documentation

setup-demo: .venv/installed-demo  ## install what a server needs

.venv/installed-%: requirements/%.lock requirements/install.sh pyproject.toml
	@PYTHON="$(PYTHON)" requirements/install.sh $*

lock:  ## resolve requirements/*.lock; needs uv
	@command -v uv >/dev/null || { echo "lock: uv is needed (pip install uv)" >&2; exit 1; }
	$(RESOLVE) --extra cpu --extra tasks --extra dev --output-file requirements/cpu.lock
	$(RESOLVE) --extra cpu --extra tasks --constraint requirements/cpu.lock --output-file requirements/demo.lock
	@sed -i -e "s/ and platform_machine == 'x86_64' and platform_python_implementation == 'CPython' and sys_platform == 'linux'//" \
	  -e "s/python_full_version < '3\.15' and //; s/ ; python_full_version < '3\.15'$$//; s/ and python_full_version < '3\.15'//" \
	  requirements/cpu.lock requirements/demo.lock
