"""The shapes of VAR-d16 at 256x256 (Tian et al. 2024), random weights, written for this measurement."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from decoder import decoder
from peer import draw, guided, run

DEPTH = 16
WIDTH, HEADS = 64 * DEPTH, DEPTH
CODES, CODE_WIDTH = 4096, 32
SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
CLASS, CLASSES = 207, 1000


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.modulation = nn.Linear(WIDTH, 6 * WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.scale = nn.Parameter(torch.full((1, HEADS, 1, 1), math.log(4.0)))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.keys = self.values = None

    def forward(self, x, steering):
        batch, n, _ = x.shape
        gain1, gain2, scale1, scale2, shift1, shift2 = self.modulation(steering).chunk(6, dim=-1)
        inner = F.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale1) + shift1
        q, k, v = self.qkv(inner).view(batch, n, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        q = F.normalize(q, dim=-1) * self.scale.clamp(max=math.log(100)).exp()
        k = F.normalize(k, dim=-1)
        if self.keys is not None:
            k, v = torch.cat([self.keys, k], dim=2), torch.cat([self.values, v], dim=2)
        self.keys, self.values = k, v
        seen = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        x = x + gain1 * self.out(seen.transpose(1, 2).reshape(batch, n, WIDTH))
        inner = F.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale2) + shift2
        return x + gain2 * self.down(F.gelu(self.up(inner), approximate="tanh"))


def build():
    length, last = sum(side * side for side in SIDES), SIDES[-1]
    classes, book = nn.Embedding(CLASSES + 1, WIDTH), nn.Embedding(CODES, CODE_WIDTH)
    positions, levels = torch.randn(1, length, WIDTH), nn.Embedding(len(SIDES), WIDTH)
    start, features = torch.randn(1, 1, WIDTH), nn.Linear(CODE_WIDTH, WIDTH)
    blocks = nn.ModuleList(Block() for _ in range(DEPTH))
    final, head = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, CODES)
    phi = nn.ModuleList(nn.Conv2d(CODE_WIDTH, CODE_WIDTH, 3, padding=1) for _ in range(4))
    pixels = decoder(CODE_WIDTH, CODE_WIDTH, 160, kernel=3)

    def add_scale(canvas, index, ids):
        side = SIDES[index]
        grid = book(ids).T.reshape(1, CODE_WIDTH, side, side)
        if side < last:
            grid = F.interpolate(grid, size=(last, last), mode="bicubic")
        smooth = phi[min(3, index * 4 // len(SIDES))](grid)
        return canvas + 0.5 * grid + 0.5 * smooth

    def generate(first):
        steering = classes(torch.tensor([[CLASS], [CLASSES]]))
        active, canvas = F.silu(steering), torch.zeros(1, CODE_WIDTH, last, last)
        x, at = steering + start, 0
        for index, side in enumerate(SIDES):
            n = side * side
            x = x + levels(torch.tensor(index)) + positions[:, at : at + n]
            at += n
            for block in blocks:
                x = block(x, active)
            scale, shift = final(active).chunk(2, dim=-1)
            scores = head(F.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale) + shift)
            strength = 1.5 * index / (len(SIDES) - 1)
            canvas = add_scale(canvas, index, draw(guided(scores, strength)[0], 900, 0.96))
            if index == 0:
                first()
            if index + 1 < len(SIDES):
                following = F.interpolate(canvas, size=(SIDES[index + 1],) * 2, mode="area")
                x = features(following.flatten(2).transpose(1, 2)).repeat(2, 1, 1)
        return canvas

    return generate, pixels


run("var-d16", build)
