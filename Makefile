# The four things a newcomer needs. Each installs what the system lacks.

CARGO ?= cargo
RAVEL := target/release/ravel
# Video files in `make demo` and `make test`, through FFmpeg's libraries.
VIDEO := --features ravel-cli/video

.PHONY: demo test test-gpu test-arm test-sanitized data data-speech data-text data-video bench bench-peers bench-peers-decode bench-peers-tokenizer bench-peers-pictures bench-load instructions setup setup-gpu setup-video setup-data setup-data-speech setup-data-text

## Builds Ravel and makes pictures, a clip that goes on, speech and a text with the embedded defaults, in ./demo.
demo: setup-video
	$(CARGO) build --release --package ravel-cli $(VIDEO)
	mkdir -p demo
	$(RAVEL) image "a red heart" -o demo/red-heart.png --force
	$(RAVEL) image "smiling cat face" "flag: Japan" "woman firefighter: dark skin tone" --pipeline emoji-var --grid -o demo/three.png --preview demo/scales --force
	$(RAVEL) video assets/examples/ball.gif -o demo/next.mp4 --frames 6 --with-context --force
	$(RAVEL) speak "Good morning! The leaves of Japan are clean." -o demo/said.wav --force
	$(RAVEL) text "It is a truth universally acknowledged" --max-tokens 60 > demo/truth.txt
	@echo "pictures, a clip, speech and a text are in ./demo"

## What needs no GPU: format, lints, documentation, arrows, tests. CI also counts instructions and runs `test-gpu`.
test: setup-video
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets $(VIDEO) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps $(VIDEO)
	$(CARGO) xtask check
	$(CARGO) test --release --workspace $(VIDEO)
	$(CARGO) check --release --package ravel-cli --all-targets

## What runs on a GPU, on the machine's own or on Mesa's Vulkan in software: `doctor`, kernels, pictures, text, training.
test-gpu: setup-gpu
	$(CARGO) test --release --package ravel-cli --package ravel-kernels --features ravel-cli/gpu --lib --test ravel gpu::

## The kernels' tests for AArch64 (NEON), under emulation. RUSTC may name a compiler that has the target where rustup can fetch none.
ARM := CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU
test-arm: setup
	@{ command -v qemu-aarch64-static && command -v aarch64-linux-gnu-gcc; } >/dev/null 2>&1 || { command -v apt-get >/dev/null || { echo "qemu-user and a C compiler for aarch64-linux-gnu are needed"; exit 2; }; sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross; }
	@test -n "$$RUSTC" || rustup target add aarch64-unknown-linux-gnu
	$(ARM)_LINKER=aarch64-linux-gnu-gcc $(ARM)_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu" $(CARGO) test --release --package ravel-kernels --target aarch64-unknown-linux-gnu --lib

## The kernels' tests under AddressSanitizer, which the toolchain brings along: no kernel reads or writes outside what it was given.
test-sanitized: setup
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address $(CARGO) test --release --package ravel-kernels --target x86_64-unknown-linux-gnu --target-dir target/sanitize --lib

## Builds the default training data in ./data/emoji.
data: setup-data
	$(CARGO) xtask data

## Builds the default video data in ./data/video.
data-video: setup-data
	@command -v ffmpeg >/dev/null || { sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends ffmpeg; }
	$(CARGO) xtask data-video

## Builds the default speech data in ./data/speech.
data-speech: setup-data-speech
	$(CARGO) xtask data-speech

## Builds the text that `novels` learned from in ./data/novels.
data-text: setup-data-text
	$(CARGO) xtask data-text

## Wall time and memory of the main jobs.
bench:
	$(CARGO) build --release --package ravel-cli
	bash tests/bench.sh

## Other engines at the same shapes, in turn: llama.cpp, candle and PyTorch, which is fetched from PyPI (3 GB) at first. A quarter of an hour once they are there.
bench-peers: bench-peers-decode bench-peers-tokenizer bench-peers-pictures

## Whole pictures at the sizes of LlamaGen-B and VAR-d16 beside PyTorch.
PEERS := target/peers/venv
bench-peers-pictures: setup-peers
	$(PEERS)/bin/python benches/peers/compare.py $(ARGS)

## The decoders of LlamaGen's VQ-16 and VAR's VQVAE to 256x256 beside the same ones in PyTorch.
bench-peers-tokenizer: setup-peers
	$(PEERS)/bin/python benches/peers/compare_tokenizer.py $(ARGS)

setup-peers: setup
	$(CARGO) build --release --package ravel-cli
	@test -x $(PEERS)/bin/python || python3 -m venv $(PEERS) 2>/dev/null || { sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends python3-venv && python3 -m venv $(PEERS); }
	$(PEERS)/bin/pip install --quiet "torch>=2.4" numpy

## A position of LLaMA at 111 million parameters beside the same sizes in llama.cpp (built from PyPI's source), candle and PyTorch.
bench-peers-decode: setup
	$(CARGO) build --release --package ravel-cli
	@test -x $(PEERS)/bin/python || python3 -m venv $(PEERS) 2>/dev/null || { sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends python3-venv && python3 -m venv $(PEERS); }
	$(PEERS)/bin/pip install --quiet "torch>=2.4" numpy gguf
	CMAKE_ARGS="-DGGML_NATIVE=ON" $(PEERS)/bin/pip install --quiet llama-cpp-python
	$(CARGO) build --release --manifest-path benches/peers/candle/Cargo.toml --target-dir target/peers/candle
	$(PEERS)/bin/python benches/peers/compare_decode.py $(ARGS)

## Seconds from nothing to the first token of a checkpoint of 440 MB.
bench-load: setup
	$(CARGO) build --release --package ravel-cli
	python3 benches/load.py $(ARGS)

## Instructions of each kernel beside those of the last time, counted by callgrind.
instructions: setup
	@command -v valgrind >/dev/null || { sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends valgrind libc6-dbg; }
	$(CARGO) xtask instructions $(ARGS)

setup:
	@command -v $(CARGO) >/dev/null || { echo "Rust is needed: https://rustup.rs"; exit 2; }
	@command -v cc >/dev/null || { sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends gcc libc6-dev; }

LIBAV := libavcodec libavformat libavutil libswscale libswresample

setup-video: setup
	@{ command -v clang && command -v ffmpeg && pkg-config --exists $(LIBAV); } >/dev/null 2>&1 || { command -v apt-get >/dev/null || { echo "FFmpeg 5.1 or newer with its development files, clang and pkg-config are needed"; exit 2; }; sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends ffmpeg clang pkg-config libavcodec-dev libavformat-dev libavutil-dev libswscale-dev libswresample-dev; }

setup-gpu: setup
	@ls /usr/share/vulkan/icd.d/*.json >/dev/null 2>&1 || { command -v apt-get >/dev/null || { echo "A Vulkan driver is needed"; exit 2; }; sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends mesa-vulkan-drivers; }

setup-data: setup
	@test -e /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf -a -e /usr/share/unicode/emoji/emoji-test.txt || { sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends fonts-noto-color-emoji unicode-data; }

setup-data-speech: setup
	@command -v espeak-ng >/dev/null || { sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends espeak-ng; }

# The package is taken apart rather than installed: installing it would bring in all of R.
setup-data-text: setup
	@test -e target/r-cran-janeaustenr/usr -o -e /usr/lib/R/site-library/janeaustenr || { sudo=$$(command -v sudo || true); $$sudo apt-get update -qq; mkdir -p target/r-cran-janeaustenr && cd target/r-cran-janeaustenr && apt-get download -qq r-cran-janeaustenr && dpkg-deb -x r-cran-janeaustenr_*.deb .; }
