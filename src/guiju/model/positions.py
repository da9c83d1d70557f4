"""Where a token stands, in the four ways that models know it: learned vectors need no code; here are the other three.

Axes: B batch, T queries, S keys, n heads of either kind, H query heads, D head width, R turned values of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from guiju.model.config import ModelConfig, RotaryScaling

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of each position's angles, (T, R / 2) or (B, 1, T, R / 2) each."""


def rotation_angles(positions: Tensor, config: ModelConfig, dtype: torch.dtype) -> Rotation:
    """Cosine and sine of the angle by which each pair of a head's values is turned, for (T,) or (B, T) positions.

    Computed in float32 and made anew in each pass, not kept as weights: rounded to bfloat16, far positions would blur.
    """
    angles = positions.float()[..., None] * rotary_frequencies(config, positions.device)  # (T, R / 2) or (B, T, R / 2)
    if angles.dim() == 3:
        angles = angles[:, None]  # alike for all heads
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotary_frequencies(config: ModelConfig, device: torch.device | None = None) -> Tensor:
    """By how much each pair of a head's values is turned from one position to the next: (R / 2,) angles in float32."""
    width = config.rotary_width
    pairs = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    frequencies = 1.0 / config.rotary_base ** (pairs / width)
    return frequencies if config.rotary_scaling is None else slowed(frequencies, config.rotary_scaling)


def slowed(frequencies: Tensor, scaling: RotaryScaling) -> Tensor:
    """Rotary frequencies, stretched for a longer context.

    Source: linear, arXiv:2306.15595; llama3, https://github.com/meta-llama/llama-models, apply_scaling in model.py.
    """
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    rounds = scaling.original_context * frequencies / (2 * math.pi)  # within the first training's context
    kept = ((rounds - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)  # 1: a fast turn, left as it is
    return kept * frequencies + (1 - kept) * frequencies / scaling.factor


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the pairs (x[i], x[i + R/2]) of (B, n, T, D) by their positions' angles; values beyond R stay."""
    cosine, sine = rotation
    turned = 2 * cosine.size(-1)
    if turned == x.size(-1):
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
    first, second, rest = x[..., : turned // 2], x[..., turned // 2 : turned], x[..., turned:]
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine, rest), dim=-1)


def sinusoids(positions: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """(...) positions -> (..., width): sines in the first half, cosines in the second, of ever slower waves.

    The paper (arXiv:1706.03762, section 3.5) takes turns between sine and cosine, which is another order of the same
    values; its authors' program and Marian have them in halves.
    """
    pairs = torch.arange(0, width, 2, device=positions.device, dtype=torch.float64)
    angles = positions.double()[..., None] / 10000.0 ** (pairs / width)  # (..., width / 2)
    return torch.cat((angles.sin(), angles.cos()), dim=-1).to(dtype)


class RelativeBias(nn.Embedding):
    """What is added to each head's scores for the distance between query and key (T5, arXiv:1910.10683, section 2.1).

    Distances are put into buckets: one each for small ones, ever wider ones after.
    """

    def __init__(self, config: ModelConfig, causal: bool) -> None:
        super().__init__(config.relative_buckets, config.heads)
        self.causal, self.farthest = causal, config.relative_distance

    def between(self, new: int, total: int) -> Tensor:
        """(1, H, T, S) for queries that are the last T of S tokens."""
        device = self.weight.device
        queries = torch.arange(total - new, total, device=device)[:, None]
        distances = torch.arange(total, device=device)[None] - queries  # (T, S); less than 0: the key is before
        buckets = relative_buckets(distances, self.num_embeddings, self.farthest, self.causal)
        return self(buckets).permute(2, 0, 1)[None]  # type: ignore[no-any-return]


def relative_buckets(distances: Tensor, count: int, farthest: int, causal: bool) -> Tensor:
    """Bucket of each distance (key less query), 0 to `count` - 1, of the same shape.

    Half of the buckets hold one distance each; the others grow like powers up to `farthest`, and all beyond share the
    last. Without `causal` one half of all is for keys that come after. Source: Mesh TensorFlow's
    _relative_position_bucket, which T5's weights were trained with.
    """
    after = torch.zeros_like(distances)
    if causal:
        distances = -distances.clamp(max=0)
    else:
        count //= 2
        after = (distances > 0).long() * count
        distances = distances.abs()
    exact = count // 2
    # In float32 as there: another rounding would put some distances into the next bucket.
    grown = torch.log(distances.float() / exact) / math.log(farthest / exact) * (count - exact)
    wide = (exact + grown.clamp(min=0).long()).clamp(max=count - 1)
    return after + torch.where(distances < exact, distances, wide)
