"""The blocks of a vision transformer: attention and an MLP, each with LayerNorm before it and a shortcut around it."""

from collections.abc import Generator, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.core.capabilities import AttentionMap
from paribus.models.drop_path import DropPath
from paribus.models.recompute import run_checkpointed
from paribus.models.vit_matching import BlockSize


class Attention(nn.Module):
    """Multi-head self-attention with biases on all four projections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, width) to the same shape."""
        q, k, v = self._project(x)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def weights(self, x: Tensor) -> Tensor:
        """(n, t, width) to (n, heads, t, t): how much each query, a row, takes from each key. Float32, and not fused:
        this is for measurements."""
        q, k, _ = self._project(x)
        return (q.float() @ k.float().transpose(2, 3) / q.shape[3] ** 0.5).softmax(3)

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, (n, heads, t, head dim) each."""
        return self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(F.gelu(self.fc1(x))))


class TransformerBlock(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, size: BlockSize, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width, eps=1e-6)
        self.attn = Attention(size.width, size.heads)
        self.norm2 = nn.LayerNorm(size.width, eps=1e-6)
        self.mlp = Mlp(size.width, size.hidden, dropout)
        self.drop = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.drop(self.attn(self.norm1(x))))
        return x + self.drop_path(self.drop(self.mlp(self.norm2(x))))


class Stage(nn.Module):
    """Blocks on the class tokens followed by the map's cells, row by row.

    checkpointing: keeps only each block's inputs for the backward pass.
    """

    def __init__(self, blocks: Iterable[TransformerBlock], checkpointing: bool = False) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.checkpointing = checkpointing

    def forward(self, maps: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """maps (n, c, h, w) and tokens (n, k, c) to the same shapes."""
        grid, k = maps.shape[2:], tokens.shape[1]
        x = torch.cat((tokens, maps.flatten(2).transpose(1, 2)), dim=1)
        for block in self.blocks:
            x = run_checkpointed(block, x) if self.checkpointing else block(x)
        return x[:, k:].unflatten(1, grid).permute(0, 3, 1, 2), x[:, :k]

    def attention_maps(
        self, maps: Tensor, tokens: Tensor, pitch: tuple[int, int]
    ) -> Generator[AttentionMap, None, tuple[Tensor, Tensor]]:
        """Yields each block's attention, and returns what `forward` does. pitch: pixels between the maps' cells."""
        grid, k = (maps.shape[2], maps.shape[3]), tokens.shape[1]
        x = torch.cat((tokens, maps.flatten(2).transpose(1, 2)), dim=1)
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            yield AttentionMap(block.attn.weights(block.norm1(x)), grid, pitch)
            x = block(x)
        return x[:, k:].unflatten(1, grid).permute(0, 3, 1, 2), x[:, :k]
