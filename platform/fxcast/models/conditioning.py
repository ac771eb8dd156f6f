"""The conditioner: what is known of a window, as tokens for the denoiser's cross-attention."""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.models.features import CANDLE_FEATURES, SPECTRUM_FEATURES, STATE_FEATURES, ConditionFeatures


class Condition(NamedTuple):
    """`tokens` (batch, tokens, width) for cross-attention, `pooled` (batch, width) added to the time embedding."""

    tokens: Tensor
    pooled: Tensor

    def repeat(self, times: int) -> Condition:
        """Repeat each window's condition for its samples, window by window."""
        return Condition(self.tokens.repeat_interleave(times, dim=0), self.pooled.repeat_interleave(times, dim=0))


class CandleConditioner(ModelMixin, ConfigMixin):
    """Frequency (FFT), text, clock and the candles themselves as tokens, mixed by one transformer layer.

    The frozen embeddings of the text are a buffer, one row for each sentence that can occur.

    Args:
        width: Width of a token.
        text_width: Width of a sentence embedding.
        sentences: Number of sentences.
        symbols: Number of pairs that it knows; any other is one more.
        patch_bars: Candles a token.
    """

    @register_to_config
    def __init__(self, width: int, text_width: int, sentences: int, symbols: int, patch_bars: int) -> None:
        super().__init__()
        patches = CONTEXT_BARS // patch_bars
        self.patch_bars = patch_bars
        self.candles = nn.Linear(patch_bars * CANDLE_FEATURES, width)
        self.position = nn.Parameter(torch.randn(patches, width) * 0.02)
        self.spectrum = nn.Linear(SPECTRUM_FEATURES, width)
        self.state = nn.Sequential(nn.Linear(STATE_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.text = nn.Linear(text_width, width)
        self.symbol = nn.Embedding(symbols + 1, width)
        nn.init.normal_(self.symbol.weight, std=0.02)
        self.register_buffer("sentence_embeddings", torch.zeros(sentences, text_width))
        self.mix = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, features: ConditionFeatures) -> Condition:
        """Return the tokens of windows."""
        patches = features.candles.unflatten(1, (-1, self.patch_bars)).flatten(2)  # (batch, patches, patch_bars · features)
        tokens = torch.cat(
            [
                self.candles(patches) + self.position,
                self.spectrum(features.spectrum)[:, None],
                self.text(self.sentence_embeddings[features.sentence])[:, None],
                (self.state(features.state) + self.symbol(features.symbol))[:, None],
            ],
            dim=1,
        )  # (batch, patches + 3, width)
        tokens = self.norm(self.mix(tokens))
        return Condition(tokens, tokens.mean(dim=1) + tokens[:, -1])
