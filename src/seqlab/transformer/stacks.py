"""Blocks one after the other: the encoder, which alone and causal is a language model's trunk, and the decoder.

Shapes: N batch, L target length, S source length, E = d_model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..attention import ProjectedKeys
from ..checks import check_sizes
from .blocks import DecoderBlock, EncoderBlock

Cache = tuple[ProjectedKeys, ...]  # of each layer keys and values, (N, nhead, S, E / nhead)


class TransformerEncoder(nn.Module):
    """Encoder blocks one after the other; with ``norm_first`` a last layer norm, else none, as in the paper.

    Args:
        num_layers: blocks.
        d_model, nhead, dim_feedforward, dropout, activation, norm_first, device, dtype: as in :class:`EncoderBlock`.

    Shape:
        src (N, L, E); mask (L, L) or (N * nhead, L, L) and src_key_padding_mask (N, L), True = ignore.

    Returns:
        (N, L, E).

    Raises:
        TypeError, ValueError: as :class:`EncoderBlock`.

    Differs:
        torch.nn.TransformerEncoder takes a layer and copies it, so that all start alike; here the arguments of a layer
        are given, and each draws its own weights. A state_dict goes both ways if torch's has its ``norm`` exactly where
        ``norm_first`` is set. ``is_causal`` makes the mask, where torch's wants it as mask beside.

    >>> import torch
    >>> encoder = TransformerEncoder(2, 8, nhead=2, dim_feedforward=16, norm_first=True)
    >>> encoder(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        num_layers: int,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        *,
        norm_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check_sizes("TransformerEncoder", num_layers=num_layers)
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.layers: Any = nn.ModuleList(
            EncoderBlock(d_model, nhead, dim_feedforward, dropout, activation, norm_first=norm_first, **place)
            for _ in range(num_layers)
        )
        # With norm_first the residual path itself has not been normed yet.
        self.norm = nn.LayerNorm(d_model, **place) if norm_first else nn.Identity()

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """All positions at once; shapes as in the class."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return self.norm(src)

    def step(self, x: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """The next position or positions, causally: ``(output, cache)``, the cache of each layer longer by those."""
        longer = []
        for i, layer in enumerate(self.layers):
            x, keys = layer.step(x, None if cache is None else cache[i])
            longer.append(keys)
        return self.norm(x), tuple(longer)


class TransformerDecoder(nn.Module):
    """Decoder blocks one after the other; with ``norm_first`` a last layer norm, else none, as in the paper.

    Args:
        num_layers: blocks.
        d_model, nhead, dim_feedforward, dropout, activation, norm_first, device, dtype: as in :class:`DecoderBlock`.

    Shape:
        tgt (N, L, E); memory (N, S, E), or what ``project_memory`` made of it; the masks as in :class:`DecoderBlock`.

    Returns:
        (N, L, E).

    Raises:
        TypeError, ValueError: as :class:`DecoderBlock`.

    Differs:
        from torch.nn.TransformerDecoder as :class:`TransformerEncoder` from torch.nn.TransformerEncoder.

    >>> import torch
    >>> decoder = TransformerDecoder(2, 8, nhead=2, dim_feedforward=16).eval()
    >>> x, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    >>> first, cache = decoder.step(x[:, :1], decoder.project_memory(memory))
    >>> torch.allclose(first, decoder(x, memory)[:, :1], atol=1e-6)  # step by step the same
    True
    """

    def __init__(
        self,
        num_layers: int,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        *,
        norm_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check_sizes("TransformerDecoder", num_layers=num_layers)
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.layers: Any = nn.ModuleList(
            DecoderBlock(d_model, nhead, dim_feedforward, dropout, activation, norm_first=norm_first, **place)
            for _ in range(num_layers)
        )
        # With norm_first the residual path itself has not been normed yet.
        self.norm = nn.LayerNorm(d_model, **place) if norm_first else nn.Identity()

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor | Cache,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = True,
    ) -> Tensor:
        """All positions at once; shapes as in the class."""
        sources: Sequence[Any] = [memory] * len(self.layers) if isinstance(memory, Tensor) else memory
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        for layer, source in zip(self.layers, sources, strict=True):
            tgt = layer(tgt, source, *masks, tgt_is_causal)
        return self.norm(tgt)

    def project_memory(self, memory: Tensor, key_padding_mask: Tensor | None = None) -> Cache:
        """The source's keys and values for each layer, once for any number of steps."""
        return tuple(layer.project_memory(memory, key_padding_mask) for layer in self.layers)

    def step(self, x: Tensor, memory: Cache, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """The next position or positions: ``(output, cache)``, the cache of each layer longer by those."""
        longer = []
        for i, layer in enumerate(self.layers):
            x, keys = layer.step(x, memory[i], None if cache is None else cache[i])
            longer.append(keys)
        return self.norm(x), tuple(longer)
