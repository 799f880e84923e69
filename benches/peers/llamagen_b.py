"""The shapes of LlamaGen-B from a class at 256x256 (Sun et al. 2024), random weights, written for this measurement."""

import torch
from torch import nn
from torch.nn import functional as F

from decoder import decoder
from peer import draw, guided, run

WIDTH, LAYERS, HEADS, INNER = 768, 12, 12, 2048
CODES, SIDE, CODE_WIDTH = 16384, 16, 8
CLASS, CLASSES = 207, 1000


def rotation():
    """Cosines and sines by position, `[1 + codes, width of a head / 2]`: half of the pairs turn with the row, half with the column."""
    quarter = WIDTH // HEADS // 4
    speeds = 1e4 ** -(torch.arange(quarter) / quarter)
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    angles = torch.cat([rows.reshape(-1, 1) * speeds, columns.reshape(-1, 1) * speeds], dim=1)
    nothing = torch.zeros(1, 2 * quarter)
    return torch.cat([nothing, angles.cos()]), torch.cat([nothing, angles.sin()])


def turned(x, cos, sin):
    """Pairs of neighbours, turned. `x`: `[batch, heads, positions, width]`."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class Block(nn.Module):
    def __init__(self, batch, length):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH, eps=1e-5), nn.RMSNorm(WIDTH, eps=1e-5)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate = nn.Linear(WIDTH, INNER, bias=False)
        self.up = nn.Linear(WIDTH, INNER, bias=False)
        self.down = nn.Linear(INNER, WIDTH, bias=False)
        shape = (batch, HEADS, length, WIDTH // HEADS)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)

    def forward(self, x, at, cos, sin):
        batch = x.shape[0]
        q, k, v = self.qkv(self.norm1(x)).view(batch, 1, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        self.keys[:, :, at : at + 1] = turned(k, cos, sin)
        self.values[:, :, at : at + 1] = v
        seen = F.scaled_dot_product_attention(
            turned(q, cos, sin), self.keys[:, :, : at + 1], self.values[:, :, : at + 1]
        )
        x = x + self.out(seen.transpose(1, 2).reshape(batch, 1, WIDTH))
        inner = self.norm2(x)
        return x + self.down(F.silu(self.gate(inner)) * self.up(inner))


def build():
    length = SIDE * SIDE
    classes, codes = nn.Embedding(CLASSES + 1, WIDTH), nn.Embedding(CODES, WIDTH)
    blocks = nn.ModuleList(Block(2, length) for _ in range(LAYERS))
    norm, head = nn.RMSNorm(WIDTH, eps=1e-5), nn.Linear(WIDTH, CODES, bias=False)
    book = nn.Embedding(CODES, CODE_WIDTH)
    pixels = decoder(CODE_WIDTH, 256, 128)
    cos, sin = rotation()

    def generate(first):
        x = classes(torch.tensor([[CLASS], [CLASSES]]))
        chosen = []
        for at in range(length):
            for block in blocks:
                x = block(x, at, cos[at], sin[at])
            code = draw(guided(head(norm(x))[:, 0], 3.0), 2000)
            chosen.append(code)
            if at == 0:
                first()
            x = codes(code.repeat(2))[:, None]
        return torch.cat(chosen)

    def decode(ids):
        vectors = F.normalize(book(ids), dim=-1)
        return pixels(vectors.T.reshape(1, CODE_WIDTH, SIDE, SIDE))

    return generate, decode


run("llamagen-b-256", build)
