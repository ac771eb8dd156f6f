"""What a trader sets."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from fxcast.config import Settings
from fxcast.domain.forecast import MAX_SAMPLES
from fxcast.domain.signal import SignalSource


class RiskLimits(Settings):
    """Limits that stand between a decision and an order; they only reduce."""

    max_positions: int = Field(default=3, ge=1, description="open positions at once")
    max_currency_exposure_pct: float = Field(
        default=300.0, gt=0, description="net exposure to one currency, per cent of equity (300 = three times)"
    )
    max_daily_loss_pct: float = Field(default=2.0, gt=0, description="no new risk after losing this much of the day's first equity")
    max_drawdown_pct: float = Field(default=15.0, gt=0, description="no new risk this far below the peak of equity")
    max_spread_pips: float = Field(default=3.0, gt=0, description="no new risk at a wider spread")
    max_forecast_age_bars: int = Field(default=8, ge=0, description="an older forecast counts as none")


class TradingConfig(Settings):
    """The engine's settings. The seven `ldm4ts_` switches are the ones users know; off means off."""

    use_ldm4ts: bool = Field(default=True, description="ask for LDM4TS forecasts and trade on them")
    ldm4ts_checkpoint_path: Path | None = Field(
        default=None, description="model folder that the service should have loaded; checked at start"
    )
    ldm4ts_horizons: tuple[int, ...] = Field(default=(15, 60, 240), min_length=1, description="horizons in minutes")
    ldm4ts_uncertainty_threshold: float = Field(
        default=0.5, gt=0, description="uncertainty (100 · std / price, per cent) at which size is zero and the signal is rejected"
    )
    ldm4ts_min_strength: float = Field(
        default=0.3, ge=0, le=1, description="|mean − price| / std below which a forecast gives no signal"
    )
    ldm4ts_position_scaling: bool = Field(default=True, description="size × max(0, 1 − uncertainty / threshold)")
    ldm4ts_num_samples: int = Field(default=50, ge=2, le=MAX_SAMPLES, description="Monte-Carlo samples of a forecast")

    forecast_source: SignalSource = Field(
        default=SignalSource.LDM4TS_FORECAST,
        description="whose forecasts the service gives: ldm4ts_forecast, sssd_forecast, garch_forecast, random_walk_forecast or "
        "time_of_day_forecast; with an opponent, the ldm4ts_ switches above are its own",
    )
    forecast_interval_bars: int = Field(default=1, ge=1, description="ask for a forecast on every n-th candle")
    forecast_timeout_s: float = Field(default=10.0, gt=0, description="a later forecast is no forecast")
    use_trend: bool = Field(default=True, description="trade with the trend (moving averages)")
    use_mean_reversion: bool = Field(default=True, description="trade against extremes (Bollinger bands)")
    min_quality: float = Field(default=0.45, ge=0, le=1, description="total quality below which a signal is rejected")
    risk_per_trade_pct: float = Field(default=0.5, gt=0, le=10, description="share of equity lost if the stop is hit, per cent")
    spread_pips: float = Field(default=1.0, ge=0, description="typical spread: forecasts inside it are neutral")
    risk: RiskLimits = RiskLimits()

    @model_validator(mode="after")
    def _horizons_ascend(self) -> TradingConfig:
        if list(self.ldm4ts_horizons) != sorted(set(self.ldm4ts_horizons)) or self.ldm4ts_horizons[0] <= 0:
            raise ValueError(f"ldm4ts_horizons must ascend from above zero, found {list(self.ldm4ts_horizons)}")
        return self

    @field_validator("forecast_source")
    @classmethod
    def _forecasts(cls, source: SignalSource) -> SignalSource:
        if not source.is_forecast:
            allowed = ", ".join(each.value for each in SignalSource if each.is_forecast)
            raise ValueError(f"allowed: {allowed}")
        return source


class CandleSide(StrEnum):
    """Which price the candles are of."""

    BID = "bid"
    MID = "mid"
    ASK = "ask"


class PaperMarketConfig(Settings):
    """The market that the paper broker simulates, and the account it keeps."""

    account_currency: str = Field(default="USD", pattern="^[A-Z]{3}$", description="base or quote currency of every pair traded")
    starting_balance: Decimal = Field(default=Decimal(100_000), gt=0, description="in account currency")
    leverage: Decimal = Field(default=Decimal(30), gt=0, description="units held may be worth this many times the equity")
    spread_pips: Decimal = Field(default=Decimal("1.0"), ge=0, description="ask minus bid")
    slippage_pips: Decimal = Field(default=Decimal("0.1"), ge=0, description="what market orders and stops lose on top")
    candle_side: CandleSide = Field(default=CandleSide.MID, description="which price the candles are of (the sample: ask)")
