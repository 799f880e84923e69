"""Decoding at the sizes of `ravel bench decode --preset llama-111m` in PyTorch, random weights; prints a line of JSON."""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, LAYERS, HEADS, INNER, IDS = 768, 12, 12, 2048, 16384
WARM = 4


def turned(x, cos, sin):
    """Halves of a head, turned. `x`: `[batch, heads, 1, width]`."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Block(nn.Module):
    def __init__(self, batch, length):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH, eps=1e-5), nn.RMSNorm(WIDTH, eps=1e-5)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 2 * INNER, bias=False)
        self.down = nn.Linear(INNER, WIDTH, bias=False)
        shape = (batch, HEADS, length, WIDTH // HEADS)
        self.register_buffer("keys", torch.zeros(shape))
        self.register_buffer("values", torch.zeros(shape))

    def forward(self, x, at, cos, sin):
        batch = x.shape[0]
        q, k, v = self.qkv(self.norm1(x)).view(batch, 1, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        self.keys[:, :, at : at + 1] = turned(k, cos, sin)
        self.values[:, :, at : at + 1] = v
        seen = F.scaled_dot_product_attention(
            turned(q, cos, sin), self.keys[:, :, : at + 1], self.values[:, :, : at + 1]
        )
        x = x + self.out(seen.transpose(1, 2).reshape(batch, 1, WIDTH))
        gate, up = self.up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--weights-type", choices=["f32", "bf16", "f16"], default="f32")
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--threads", type=int)
    options = options.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    kind = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[options.weights_type]
    torch.manual_seed(0)
    length = WARM + options.tokens
    table = nn.Embedding(IDS, WIDTH).to(kind)
    blocks = nn.ModuleList(Block(options.batch, length) for _ in range(LAYERS)).to(kind)
    norm, head = nn.RMSNorm(WIDTH, eps=1e-5).to(kind), nn.Linear(WIDTH, IDS, bias=False).to(kind)
    half = WIDTH // HEADS // 2
    angles = torch.arange(length)[:, None] * 1e4 ** -(torch.arange(half) / half)
    cos, sin = angles.cos().to(kind), angles.sin().to(kind)
    ids, seconds = torch.arange(options.batch)[:, None], []
    with torch.inference_mode():
        for at in range(length):
            begin = time.perf_counter()
            x = table(ids)
            for block in blocks:
                x = block(x, at, cos[at], sin[at])
            ids = head(norm(x)).argmax(-1)
            seconds.append(time.perf_counter() - begin)
    print(json.dumps({"milliseconds": {"median": 1e3 * statistics.median(seconds[WARM:])}}))


main()
