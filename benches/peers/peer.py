"""What the peers share: sampling, and a picture that is timed in the parts that `ravel bench image` tells."""

import argparse
import json
import resource
import time

import torch


def guided(scores, strength):
    """Scores of a batch whose second half has no condition."""
    given, none = scores.chunk(2)
    return given + strength * (given - none)


def draw(scores, top_k, top_p=None):
    """One id for each row of scores, `[rows, ids]`."""
    least = scores.topk(top_k, dim=-1).values[:, -1:]
    scores = scores.masked_fill(scores < least, -torch.inf)
    if top_p is not None:
        ordered, order = scores.sort(dim=-1)
        cut = ordered.softmax(-1).cumsum(-1) <= 1 - top_p
        cut[:, -1] = False
        scores = scores.masked_fill(cut.scatter(-1, order, cut), -torch.inf)
    return torch.multinomial(scores.softmax(-1), 1)[:, 0]


def run(name, build):
    """Builds a model, makes one picture and prints a line of JSON.

    `build` gives a function that takes `first`, to be called when the first unit is chosen, and gives codes; and one from codes to
    pixels.
    """
    options = argparse.ArgumentParser()
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--threads", type=int)
    options = options.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    begin = time.perf_counter()
    with torch.inference_mode():
        generate, decode = build()
        loaded = time.perf_counter()
        marks = []
        codes = generate(lambda: marks.append(time.perf_counter()))
        chosen = time.perf_counter()
        pixels = decode(codes)
        assert pixels.isfinite().all()
        end = time.perf_counter()
    first = marks[0]
    print(json.dumps({
        "preset": name,
        "width": pixels.shape[-1],
        "height": pixels.shape[-2],
        "seed": options.seed,
        "threads": torch.get_num_threads(),
        "seconds": {
            "load": loaded - begin,
            "prefill": first - loaded,
            "decode": chosen - first,
            "tokenizer-decode": end - chosen,
            "picture": end - loaded,
            "whole": end - begin,
        },
        "peak-mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))
