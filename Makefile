# Everything a fresh machine needs is set up by the first target that is run.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP_FLAGS ?= --quiet --disable-pip-version-check
TYPING := build/typing/fastadasp
# glibc gives no memory back between two steps of training: a sixth of the time
KEEP_MEMORY := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=32000000000
# threads that wait for others beside other work are a burden: without it a step takes four times as much
SLEEP_WHEN_IDLE := GOMP_SPINCOUNT=0 OMP_WAIT_POLICY=passive
# large buffers would leave gaps in a heap that keeps all: they come in huge pages, and go back
HUGE_PAGES := GLIBC_TUNABLES=glibc.malloc.hugetlb=1 MALLOC_MMAP_THRESHOLD_=16777216 MALLOC_TRIM_THRESHOLD_=32000000000

# this server dies of NumPy 2, so the dependencies of the package are named here
OF_TRITON := nvidia-pytriton==0.7.0 numpy==1.26.4 blake3 onnxruntime tokenizers soundfile soxr click rich

.PHONY: demo test check browser bench bench-peers accuracy reductions train train-pretrained kill-test fuzz accept-gpu triton-test ray-test clean

demo: $(READY)  ## build the demo model under two profiles, transcribe its clips, print the latency table
	$(BIN)/python demo/run_demo.py

test: check  ## lint, types and tests; CI also has a browser, Ray and recordings
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not alone"
	$(BIN)/python -m pytest -m alone

check: $(READY)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@mkdir -p $(TYPING)
	@for folder in profiles plugins runtime evaluation serving export; do ln -sfn ../../../$$folder $(TYPING)/$$folder; done
	MYPYPATH=build/typing $(BIN)/mypy -p fastadasp.profiles -p fastadasp.plugins -p fastadasp.runtime -p fastadasp.evaluation -p fastadasp.serving -p fastadasp.export

browser:  ## Chromium, in which the tests of `report` open it; where it cannot be installed, they are skipped
	@{ command -v chromium && command -v chromedriver; } > /dev/null \
	|| { apt-get update -qq && apt-get install -qqy --no-install-recommends chromium chromium-driver; } > /dev/null \
	|| echo "Chromium cannot be installed: tests that need a browser are skipped" >&2

bench: $(READY)  ## ours against transformers, side by side in one process (about half an hour)
	$(BIN)/python bench/compare.py -o bench/results/compare.json

bench-peers: $(READY)  ## ours beside its peers, which are installed under build/peers: docs/benchmarks.md (an hour)
	$(BIN)/python bench/compare_peers.py -o bench/results/peers.json

accuracy: $(READY) synthesisers  ## what token reduction costs the demo model: docs/accuracy.md (an hour and a half)
	$(BIN)/python bench/accuracy.py

reductions: $(READY) synthesisers  ## every method and kind of positions on the demo and on what train-pretrained left: docs/reductions.md (hours)
	$(BIN)/python bench/reductions.py $(REDUCTIONS)

train: $(READY) synthesisers  ## the demo model from packages alone (about two hours)
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e ".[train]"
	$(KEEP_MEMORY) $(BIN)/python demo/train.py

train-pretrained: $(READY) synthesisers  ## a second model with a pretrained language model: docs/pretrained_model.md
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e ".[train]"
	$(HUGE_PAGES) $(SLEEP_WHEN_IDLE) $(BIN)/python demo/train_pretrained.py $(TRAINING)

.PHONY: synthesisers
synthesisers:
	@{ command -v espeak-ng && command -v flite; } > /dev/null \
	|| { apt-get update -qq && apt-get install -qqy --no-install-recommends espeak-ng flite; } > /dev/null

kill-test: $(READY)  ## kill commands at random moments and at every rename and removal: docs/reliability.md
	$(BIN)/python bench/kill_test.py --kills 200 -o bench/results/kill_test.json

fuzz: $(READY)  ## the tests that try any input, with many examples each (FUZZ_EXAMPLES): docs/reliability.md
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-1000} $(BIN)/python -m pytest -m fuzz

ray-test: $(READY)  ## a Ray on this machine, whose processes are killed: docs/scaling.md
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e ".[ray]"
	FASTADASP_RAY=1 $(BIN)/python -m pytest tests/serving/ray

triton-test: $(READY)  ## a model repository in Triton Inference Server, which a wheel brings: docs/scaling.md
	$(PYTHON) -m venv $(VENV)-triton
	$(VENV)-triton/bin/pip install $(PIP_FLAGS) $(OF_TRITON)
	$(VENV)-triton/bin/pip install $(PIP_FLAGS) --no-deps --force-reinstall .
	FASTADASP_TRITON=$(abspath $(VENV)-triton) $(BIN)/python -m pytest tests/serving/triton

accept-gpu: $(READY)  ## what runs on this GPU, stage by stage; without one each stage says so: docs/accept_gpu.md
	$(BIN)/python bench/accept_gpu.py -o build/accept_gpu.json

$(READY): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e ".[export,engines,tensorrt-rtx,openvino,check,accuracy,report,media,serve,dev]"
	@touch $@

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) $(VENV)-triton build dist *.egg-info
