"""The decoder of a VQ-GAN (Esser et al. 2021), as LlamaGen and VAR use it."""

from torch import nn
from torch.nn import functional as F


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class Residual(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.norm1, self.conv1 = norm(channels), nn.Conv2d(channels, out, 3, padding=1)
        self.norm2, self.conv2 = norm(out), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x):
        inner = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(inner)))


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)
        q, k, v = qkv.split(channels, dim=2)
        seen = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(seen.transpose(1, 2).reshape(batch, channels, height, width))


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def decoder(width, latent, channels, multiples=(1, 1, 2, 2, 4), blocks=2, kernel=1):
    """Codes of `width` numbers, `[batch, width, side, side]`, to pixels."""
    now = channels * multiples[-1]
    layers = [
        nn.Conv2d(width, latent, kernel, padding=kernel // 2),
        nn.Conv2d(latent, now, 3, padding=1),
        Residual(now, now),
        Attention(now),
        Residual(now, now),
    ]
    for level, multiple in reversed(list(enumerate(multiples))):
        for _ in range(blocks + 1):
            layers.append(Residual(now, channels * multiple))
            now = channels * multiple
            if level == len(multiples) - 1:
                layers.append(Attention(now))
        if level:
            layers.append(Upsample(now))
    layers += [norm(now), nn.SiLU(), nn.Conv2d(now, 3, 3, padding=1)]
    return nn.Sequential(*layers)
