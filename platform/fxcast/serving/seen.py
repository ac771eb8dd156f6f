"""What an answer with pictures says beside them."""

from __future__ import annotations

from pydantic import BaseModel, Field


class PixelsBody(BaseModel):
    """Which moments the pixels of a picture show, counted from 0: candles of the window, or points of a future's path."""

    seg: list[list[int]] = Field(description="the moment of each pixel of SEG, row by row")
    side: list[tuple[int, int]] = Field(description="first and last moment of each row of GAF and RP, and of each column")


class RhythmBody(BaseModel):
    """A period that a series holds."""

    bars: float = Field(description="candles a period")
    share: float = Field(description="of the variance of the series, 0 to 1")


class FutureBody(BaseModel):
    """A sampled future."""

    chart: str = Field(description="PNG in base64, as decoded: red SEG, green GAF, blue RP")
    prices: list[float] = Field(description="calibrated, at each of `future_minutes`")


class SeenBody(BaseModel):
    """What the model was told beside the pictures, how to read them, and futures that it draws."""

    text: str = Field(description="the sentence that the text encoder was given")
    return_rhythms: list[RhythmBody] = Field(description="the strongest periods of the returns, strongest first; none if flat")
    size_rhythms: list[RhythmBody] = Field(description="the same of the returns' sizes: whether calm and storm alternate")
    pixels: PixelsBody = Field(description="of the three channels")
    future_pixels: PixelsBody | None = Field(default=None, description="of a future's chart, if futures were asked for")
    future_minutes: list[float] = Field(description="how far ahead each point of a future's path lies, in open market")
    futures: list[FutureBody] = Field(description="the first of the forecast's samples, as many as were asked for")
