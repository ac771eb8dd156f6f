"""What makes one SSSD; nothing here loads torch."""

from __future__ import annotations

from pydantic import Field, model_validator

from fxcast.config import Settings
from fxcast.models.config import LDM4TSConfig


class SSSDConfig(Settings):
    """Architecture and units; the units are those of LDM4TS without a width network."""

    timeframe: str = "1h"
    horizons_minutes: tuple[int, ...] = (240, 960, 3840)
    path_points: int = Field(default=64, description="points of the future path")
    path_clip: float = Field(default=4.0, description="future path is clipped to ± this many sigma·√k")
    volatility_span_bars: int = Field(default=120, description="span of the EWMA volatility inside the window")
    channels: int = Field(default=48, ge=8, description="width of the network")
    blocks: int = Field(default=4, ge=1, description="residual blocks, each with two state spaces")
    states: int = Field(default=16, ge=1, description="complex numbers in the state of a channel")
    knows_window: bool = Field(
        default=True, description="is told the clock and the recent volatility, as LDM4TS is; the paper's SSSD is not"
    )
    sampler_steps: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _units_are_those_of_ldm4ts(self) -> SSSDConfig:
        _ = self.units  # refuses horizons that fall on no point of the path
        return self

    @property
    def units(self) -> LDM4TSConfig:
        """The configuration that the functions of models.path and models.features take their units from."""
        return LDM4TSConfig(
            timeframe=self.timeframe,
            horizons_minutes=self.horizons_minutes,
            path_points=self.path_points,
            path_clip=self.path_clip,
            volatility_span_bars=self.volatility_span_bars,
        )
