"""From codes' vectors to pixels in PyTorch: the decoders of LlamaGen's VQ-16 and VAR's VQVAE, random weights."""

import argparse
import json
import resource
import statistics
import time

import torch

from decoder import decoder

# Numbers of a code, channels of the latents, channels of the finest grid, kernel of the first convolution.
SIZES = {"llamagen-vq16": (8, 256, 128, 1), "var-vqvae": (32, 32, 160, 3)}
SIDE = 16


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--preset", choices=SIZES, required=True)
    options.add_argument("--type", choices=("f32", "bf16"), default="f32")
    options.add_argument("--planes", action="store_true", help="channels first, as the published code has them")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int)
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[options.type]
    layout = torch.contiguous_format if options.planes else torch.channels_last
    width, latent, channels, kernel = SIZES[options.preset]
    seconds = []
    with torch.inference_mode():
        pixels = decoder(width, latent, channels, kernel=kernel).to(dtype=kind, memory_format=layout)
        codes = torch.randn(1, width, SIDE, SIDE).to(dtype=kind, memory_format=layout)
        for _ in range(options.rounds + 1):
            begin = time.perf_counter()
            picture = pixels(codes).float()
            assert picture.isfinite().all()
            seconds.append(time.perf_counter() - begin)
    print(json.dumps({
        "preset": options.preset,
        "width": picture.shape[-1],
        "height": picture.shape[-2],
        "type": options.type,
        "threads": torch.get_num_threads(),
        "seconds": {"first": seconds[0], "decode": statistics.median(seconds[1:]), "least": min(seconds[1:])},
        "peak-mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))


main()
