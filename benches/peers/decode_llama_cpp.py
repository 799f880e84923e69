"""Decoding at the sizes of `ravel bench decode --preset llama-111m` in llama.cpp, random weights; prints a line of JSON.

The file of weights is written to the folder `--files` at first, by the package `gguf`.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

WIDTH, LAYERS, HEADS, INNER, IDS = 768, 12, 12, 2048, 16384
WARM = 4


def write(path, kind):
    import gguf

    types = {
        "f32": gguf.GGMLQuantizationType.F32,
        "f16": gguf.GGMLQuantizationType.F16,
        "bf16": gguf.GGMLQuantizationType.BF16,
        "q8": gguf.GGMLQuantizationType.Q8_0,
        "q4": gguf.GGMLQuantizationType.Q4_0,
    }
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(IDS)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([b"<unk>", b"<s>", b"</s>"] + [f"t{i}".encode() for i in range(3, IDS)])
    writer.add_token_scores([0.0] * IDS)
    writer.add_token_types([2, 3, 3] + [1] * (IDS - 3))
    random = np.random.default_rng(0)

    def add(name, rows, columns):
        values = (random.standard_normal((rows, columns)) * 0.02).astype(np.float32)
        if kind != "f32":
            values = gguf.quants.quantize(values, types[kind])
        writer.add_tensor(name, values, raw_dtype=types[kind])

    add("token_embd.weight", IDS, WIDTH)
    add("output.weight", IDS, WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}.weight", WIDTH, WIDTH)
        add(f"blk.{layer}.ffn_gate.weight", INNER, WIDTH)
        add(f"blk.{layer}.ffn_up.weight", INNER, WIDTH)
        add(f"blk.{layer}.ffn_down.weight", WIDTH, INNER)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--weights-type", choices=["f32", "f16", "bf16", "q8", "q4"], default="f32")
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--files", type=Path, default=Path("target/peers"))
    options = options.parse_args()
    path = options.files / f"llama-111m-{options.weights_type}.gguf"
    if not path.exists():
        part = path.with_suffix(".part")
        write(part, options.weights_type)
        part.rename(path)

    import llama_cpp as cpp

    quiet = cpp.llama_log_callback(lambda *_: None)  # llama.cpp calls it for as long as it runs.
    cpp.llama_log_set(quiet, None)
    cpp.llama_backend_init()
    model = cpp.llama_model_load_from_file(str(path).encode(), cpp.llama_model_default_params())
    settings = cpp.llama_context_default_params()
    length = WARM + options.tokens
    settings.n_ctx = length * options.batch
    settings.n_batch = settings.n_ubatch = max(options.batch, 32)
    settings.n_seq_max = options.batch
    settings.n_threads = settings.n_threads_batch = options.threads
    settings.type_k = settings.type_v = cpp.GGML_TYPE_F32
    context = cpp.llama_init_from_model(model, settings)
    batch = cpp.llama_batch_init(options.batch, 0, 1)
    ids, seconds = list(range(3, 3 + options.batch)), []
    for at in range(length):
        begin = time.perf_counter()
        batch.n_tokens = options.batch
        for row in range(options.batch):
            batch.token[row], batch.pos[row] = ids[row], at
            batch.n_seq_id[row], batch.seq_id[row][0], batch.logits[row] = 1, row, True
        assert cpp.llama_decode(context, batch) == 0
        for row in range(options.batch):
            scores = np.ctypeslib.as_array(cpp.llama_get_logits_ith(context, row), (IDS,))
            ids[row] = int(scores.argmax())
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"milliseconds": {"median": 1e3 * statistics.median(seconds[WARM:])}}))


main()
