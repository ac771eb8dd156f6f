"""What makes one LDM4TS model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fxcast.config import Settings
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting

Preset = Literal["tiny", "paper"]
_PIXELS_A_LATENT: dict[Preset, int] = {"tiny": 4, "paper": 8}  # along a side: what the preset's autoencoder shrinks


def _is_empty(values: tuple[str, ...]) -> bool:
    return not values


class LDM4TSConfig(Settings):
    """Architecture and units of a model; saved as `model_index.json`.

    A model of several timeframes looks as many candles ahead in each; only `timeframe`, the main one, has its horizons in minutes
    here. `at` gives the configuration as another of them sees it.
    """

    preset: Preset = "tiny"
    timeframe: str = "1h"
    also_timeframes: tuple[str, ...] = Field(
        default=(),
        exclude_if=_is_empty,  # or runs, folders and encoded windows of one timeframe would differ from those made without it
        description="others that it was trained on, shortest first",
    )
    symbols: tuple[str, ...] = Field(default=(), description="pairs it was trained on; any other is forecast as an unknown one")
    horizons_minutes: tuple[int, ...] = (240, 960, 3840)
    image_size: int = Field(default=32, description="S, pixels a side")
    path_points: int = Field(default=64, description="points of the future path; a square number, folded row by row")
    path_clip: float = Field(default=4.0, description="future path is clipped to ± this many sigma·√k")
    volatility_span_bars: int = Field(default=120, description="span of the EWMA volatility inside the window")
    latent_channels: int = 4
    unet_channels: tuple[int, ...] = (16, 32)
    condition_width: int = Field(default=64, description="width of a conditioning token")
    candle_patch_bars: int = Field(default=10, description="candles a token")
    sampler_steps: int = 2
    train_timesteps: int = 1000

    @field_validator("also_timeframes")
    @classmethod
    def _others(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        main = info.data.get("timeframe")
        if len({main, *names}) < 1 + len(names):
            raise ValueError(f"each timeframe once, and {main} is the main one")
        try:
            return tuple(sorted(names, key=lambda name: Timeframe(name).minutes))
        except BadCandles as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _consistent(self) -> LDM4TSConfig:
        side = self.path_side
        if side * side != self.path_points:
            raise ValueError(f"path_points must be a square number, found {self.path_points}")
        if self.image_size % side:
            raise ValueError(f"image_size must be a multiple of {side}, found {self.image_size}")
        if CONTEXT_BARS % self.candle_patch_bars:
            raise ValueError(f"candle_patch_bars must divide {CONTEXT_BARS}, found {self.candle_patch_bars}")
        if self.path_points & (self.path_points - 1):
            raise ValueError(f"path_points must be a power of two, found {self.path_points}")
        if len(set(self.symbols)) < len(self.symbols):
            raise ValueError(f"symbols must differ, found {list(self.symbols)}")
        if list(self.horizons_minutes) != sorted(set(self.horizons_minutes)):
            raise ValueError(f"horizons_minutes must ascend, found {list(self.horizons_minutes)}")
        for minutes in self.horizons_minutes:
            if Timeframe(self.timeframe).bars(minutes) * self.path_points % self.future_bars:
                raise ValueError(f"horizon {minutes} falls on none of the {self.path_points} points of the path")
        return self

    @property
    def timeframes(self) -> tuple[str, ...]:
        """All that it was trained on, the main one first."""
        return (self.timeframe, *self.also_timeframes)

    def at(self, timeframe: str) -> LDM4TSConfig:
        """Return the configuration with another of the timeframes as the main one: as many bars ahead, in its minutes.

        Raises:
            BadSetting: If the model isn't of that timeframe.
        """
        if timeframe == self.timeframe:
            return self
        if timeframe not in self.also_timeframes:
            raise BadSetting(f"timeframe: found {timeframe}; allowed: {', '.join(self.timeframes)}")
        minutes = Timeframe(timeframe).minutes
        changed = {
            "timeframe": timeframe,
            "also_timeframes": tuple(name for name in self.timeframes if name != timeframe),
            "horizons_minutes": tuple(bars * minutes for bars in self.horizon_bars),
        }
        return LDM4TSConfig.model_validate({**dict(self), **changed})

    @property
    def path_side(self) -> int:
        return round(self.path_points**0.5)

    @property
    def latent_size(self) -> int:
        """s, pixels a side of a latent: 8 for `tiny`, 28 for `paper`."""
        return self.image_size // _PIXELS_A_LATENT[self.preset]

    @property
    def future_bars(self) -> int:
        """H: the longest horizon in bars."""
        return Timeframe(self.timeframe).bars(self.horizons_minutes[-1])

    @property
    def horizon_bars(self) -> tuple[int, ...]:
        return tuple(Timeframe(self.timeframe).bars(minutes) for minutes in self.horizons_minutes)

    @property
    def horizon_points(self) -> tuple[int, ...]:
        """Index into the path of each horizon."""
        return tuple(bars * self.path_points // self.future_bars - 1 for bars in self.horizon_bars)


def preset_config(
    preset: Preset, timeframe: str, symbols: tuple[str, ...] = (), also_timeframes: tuple[str, ...] = ()
) -> LDM4TSConfig:
    """Return the configuration of a preset for some pairs: 15, 60, 240 minutes on 1m candles; 4, 16, 64 bars on any other.

    Args:
        timeframe: The main one, whose bars the horizons are.
        also_timeframes: Others, with as many bars.
    """
    minutes = Timeframe(timeframe).minutes
    horizons = (15, 60, 240) if timeframe == "1m" else (4 * minutes, 16 * minutes, 64 * minutes)
    if preset == "tiny":
        return LDM4TSConfig(
            preset=preset, timeframe=timeframe, also_timeframes=also_timeframes, symbols=symbols, horizons_minutes=horizons
        )
    return LDM4TSConfig(
        preset=preset,
        timeframe=timeframe,
        also_timeframes=also_timeframes,
        symbols=symbols,
        horizons_minutes=horizons,
        image_size=224,
        unet_channels=(128, 256, 256),
        condition_width=256,
        sampler_steps=20,
    )
