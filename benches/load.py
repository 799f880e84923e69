"""Seconds from nothing to the first token of a LLaMA checkpoint of 440 MB, in turn for f32 and bfloat16.

    python3 benches/load.py [--rounds N] [--ravel FILE]

The files are made of random numbers under target/load and stay in the system's cache. Needs Python alone.
"""

import argparse
import json
import os
import random
import resource
import statistics
import struct
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH, LAYERS, HIDDEN, IDS = 768, 12, 2048, 16_384
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "intermediate_size": HIDDEN,
    "vocab_size": IDS,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Sign and mantissa of a number are drawn, its exponent is that of 1/64 to 1/32.
TYPES = {"f32": ("F32", 4, 0x807FFFFF, 0x3C800000), "bf16": ("BF16", 2, 0x807F, 0x3C80)}


def shapes():
    yield "model.embed_tokens.weight", [IDS, WIDTH]
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for name in "qkvo":
            yield at + f"self_attn.{name}_proj.weight", [WIDTH, WIDTH]
        for name, shape in [("gate", [HIDDEN, WIDTH]), ("up", [HIDDEN, WIDTH]), ("down", [WIDTH, HIDDEN])]:
            yield at + f"mlp.{name}_proj.weight", shape
        for name in ["input", "post_attention"]:
            yield at + f"{name}_layernorm.weight", [WIDTH]
    yield "model.norm.weight", [WIDTH]
    yield "lm_head.weight", [IDS, WIDTH]


def numbers(count, kind, draw):
    _, size, drawn, fixed = TYPES[kind]

    def repeated(word):
        return int.from_bytes(word.to_bytes(size, "little") * count, "little")

    bits = int.from_bytes(draw.randbytes(size * count), "little")
    return (bits & repeated(drawn) | repeated(fixed)).to_bytes(size * count, "little")


def make(folder, kind):
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.safetensors"
    if weights.exists():
        return
    name, size, _, _ = TYPES[kind]
    header, start = {}, 0
    for tensor, shape in shapes():
        bytes_ = size * (shape[0] * shape[-1] if len(shape) > 1 else shape[0])
        header[tensor] = {"dtype": name, "shape": shape, "data_offsets": [start, start + bytes_]}
        start += bytes_
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    draw, unfinished = random.Random(0), folder / "unfinished"
    with open(unfinished, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in header.values():
            start, end = tensor["data_offsets"]
            file.write(numbers((end - start) // size, kind, draw))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_bytes((ROOT / "assets/models/novels/tokenizer.json").read_bytes())
    os.replace(unfinished, weights)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--ravel", default=ROOT / "target/release/ravel")
    options = options.parse_args()
    times = {kind: [] for kind in TYPES}
    for kind in TYPES:
        make(ROOT / "target/load" / kind, kind)
    for _ in range(options.rounds + 1):
        for kind, seconds in times.items():
            folder = ROOT / "target/load" / kind
            command = [options.ravel, "text", "It is", "--pipeline", folder, "--max-tokens", "1", "--temperature", "0"]
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - begin)
    for kind, seconds in times.items():
        size = (ROOT / "target/load" / kind / "model.safetensors").stat().st_size
        # The first one may have read the disk.
        seconds = sorted(seconds[1:])
        print(
            f"{kind:5} {size / 1e6:6.1f} MB: {statistics.median(seconds):.3f} s to the first token"
            f" ({seconds[0]:.3f} to {seconds[-1]:.3f})"
        )
    print(f"peak {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
