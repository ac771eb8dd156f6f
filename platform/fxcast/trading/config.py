"""What a trader sets."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from fxcast.config import Settings
from fxcast.domain.forecast import MAX_SAMPLES
from fxcast.domain.signal import Regime, SignalSource
from fxcast.errors import BadSetting
from fxcast.signals.quality import QualityConfig
from fxcast.signals.sources import SourceSpec
from fxcast.trading.tuned import TunedParameters, tuned_values

Session = Literal["Sydney", "Tokyo", "London", "New York"]


def _pairs(symbols: tuple[str, ...]) -> tuple[str, ...]:
    for symbol in symbols:
        if len(symbol) != 6 or not symbol.isalpha() or not symbol.isupper():
            raise PydanticCustomError("symbol", "{found}: not six capital letters, as in EURUSD", {"found": symbol})
    return tuple(dict.fromkeys(symbols))


Pairs = Annotated[tuple[str, ...], AfterValidator(_pairs)]  # symbols, each once
_WEEK_MINUTES = 7 * 24 * 60
_YEAR_MINUTES = 365 * 24 * 60
Share = Annotated[float, Field(ge=0, le=1)]
ValueT = TypeVar("ValueT")


class RiskLimits(Settings):
    """Limits that stand between a decision and an order; they only reduce."""

    max_positions: int = Field(default=3, ge=1, description="open positions at once, one a symbol")
    max_symbol_exposure_pct: float = Field(
        default=300.0, gt=0, description="worth of one symbol's position, per cent of equity; a larger one is cut"
    )
    max_currency_exposure_pct: float = Field(
        default=300.0, gt=0, description="net exposure to one currency, per cent of equity (300 = three times); a larger one is cut"
    )
    max_correlation: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="no new position whose returns go more closely with an open one's, sides taken into account; 1 allows all",
    )
    correlation_bars: int = Field(default=60, ge=20, le=99, description="candles that the correlation is taken over")
    max_daily_loss_pct: float = Field(default=2.0, gt=0, description="no new risk after losing this much of the day's first equity")
    max_drawdown_pct: float = Field(default=15.0, gt=0, description="no new risk this far below the peak of equity")
    cool_off_losses: int = Field(default=4, ge=1, description="losing positions in a row that end trading for a while")
    cool_off_minutes: int = Field(default=240, ge=0, le=_YEAR_MINUTES, description="for how long; 0 for not at all")
    max_spread_pips: float = Field(default=3.0, gt=0, description="no new risk at a wider spread")
    max_candle_age_s: float = Field(
        default=120.0, gt=0, le=60 * _YEAR_MINUTES, description="no new risk on a candle that closed longer ago"
    )
    max_forecast_age_bars: int = Field(default=8, ge=0, description="an older forecast counts as none")
    sessions: tuple[Session, ...] = Field(default=(), description="no new risk unless one of them is open; empty: at any time")
    weekend_cut_off_minutes: int = Field(
        default=60, ge=0, le=_WEEK_MINUTES, description="no new risk so shortly before the week closes"
    )
    min_free_margin_pct: float = Field(
        default=50.0, ge=0, lt=100, description="share of equity that stays free of margin; a larger position is cut"
    )


class SizingMethod(StrEnum):
    """How the base size is found, before uncertainty scales it."""

    FIXED_FRACTION = "fixed_fraction"
    KELLY = "kelly"
    VOLATILITY_TARGET = "volatility_target"


class SizingConfig(Settings):
    """How large a position is before uncertainty and risk reduce it."""

    method: SizingMethod = Field(default=SizingMethod.FIXED_FRACTION, description="fixed_fraction, kelly or volatility_target")
    risk_per_trade_pct: float = Field(
        default=0.5, gt=0, le=10, description="share of equity lost at the stop, per cent; with other methods the most it may be"
    )
    kelly_fraction: float = Field(default=0.25, gt=0, le=1, description="share of the Kelly bet that is taken")
    volatility_target_pct: float = Field(
        default=0.25, gt=0, description="standard deviation of the position's profit over its horizon, per cent of equity"
    )
    regime_multipliers: Mapping[Regime, Share] = Field(
        default_factory=dict[Regime, Share],
        description="by regime, what the base size is multiplied with, 0 to 1; a regime that is not named: 1",
    )

    def multiplier(self, regime: Regime) -> float:
        """Return what the base size is multiplied with in a regime."""
        return self.regime_multipliers.get(regime, 1.0)


class ManagementConfig(Settings):
    """Where stop and target lie, and what happens to an open position. Stops only tighten; None switches a rule off."""

    stop_multiple: float = Field(
        default=1.0, gt=0, description="distance from close to stop, in times of what the leading source says"
    )
    target_multiple: float = Field(default=1.0, gt=0, description="the same of the target, and of the one that is followed")
    holding_multiple: float = Field(
        default=1.0, gt=0, le=1000, description="how long a position is held, in times of its signal's horizon; for exit_at_horizon"
    )
    follow_targets: bool = Field(default=True, description="move the target to the mean of a fresh forecast")
    min_target_change_pips: float = Field(default=2.0, gt=0, description="a smaller change of stop or target is not sent")
    exit_uncertainty_pct: float | None = Field(
        default=None, gt=0, description="close when the forecast's uncertainty (100 · std / price) has grown to this"
    )
    exit_at_horizon: bool = Field(default=True, description="close when the signal's horizon, times holding_multiple, has passed")
    exit_before_weekend_minutes: int | None = Field(
        default=None, ge=1, le=_WEEK_MINUTES, description="close so long before the week closes"
    )
    break_even_at_r: float | None = Field(
        default=None, gt=0, description="move the stop to the entry when the profit has reached so many times the first risk"
    )
    trail_at_r: float | None = Field(default=None, gt=0, description="trail the stop once the profit is so many times the risk")
    trail_distance_r: float = Field(default=1.0, gt=0, description="how far behind the best close the stop trails, in first risks")


class TradingConfig(Settings):
    """The engine's settings. The seven `ldm4ts_` switches are the ones users know; off means off."""

    use_ldm4ts: bool = Field(default=True, description="ask for LDM4TS forecasts and trade on them")
    ldm4ts_checkpoint_path: Path | None = Field(
        default=None, description="model folder that the service should have loaded; checked at start"
    )
    ldm4ts_horizons: tuple[Annotated[int, Field(le=_YEAR_MINUTES)], ...] = Field(
        default=(15, 60, 240), min_length=1, description="horizons in minutes"
    )
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
    opponents: Mapping[SignalSource, str] = Field(
        default_factory=dict[SignalSource, str],
        description="further forecasters that vote beside it, each with the model version that the service is asked for",
    )
    forecast_interval_bars: int = Field(default=1, ge=1, description="ask for a forecast on every n-th candle")
    forecast_timeout_s: float = Field(default=10.0, gt=0, le=3600, description="a later forecast is no forecast")
    use_trend: bool = Field(default=True, description="trade with the trend (moving averages)")
    use_mean_reversion: bool = Field(default=True, description="trade against extremes (Bollinger bands)")
    use_pattern: bool = Field(default=False, description="trade candlestick patterns, and breakouts on volume")
    use_multi_timeframe: bool = Field(default=False, description="trade where 5m, 15m, 1h and 4h agree (the longer ones)")
    sources: tuple[SourceSpec, ...] = Field(default=(), description="further sources of your own, by class and options")
    min_quality: float = Field(default=0.45, ge=0, le=1, description="total quality below which a signal is rejected")
    quality: QualityConfig = QualityConfig()
    spread_pips: float = Field(default=1.0, ge=0, description="typical spread: forecasts inside it are neutral")
    sizing: SizingConfig = SizingConfig()
    risk: RiskLimits = RiskLimits()
    management: ManagementConfig = ManagementConfig()
    regime_refit_bars: int = Field(default=500, ge=1, description="fit the regimes again after so many candles")
    tuned: tuple[TunedParameters, ...] = Field(
        default=(), description="values that hold for one symbol or in one regime, the more special before the more general"
    )

    @model_validator(mode="after")
    def _horizons_ascend(self) -> TradingConfig:
        if list(self.ldm4ts_horizons) != sorted(set(self.ldm4ts_horizons)) or self.ldm4ts_horizons[0] <= 0:
            raise ValueError(f"ldm4ts_horizons must ascend from above zero, found {list(self.ldm4ts_horizons)}")
        return self

    @field_validator("forecast_source")
    @classmethod
    def _forecasts(cls, source: SignalSource) -> SignalSource:
        if not source.is_forecast:
            raise ValueError(f"allowed: {_FORECASTS}")
        return source

    @field_validator("opponents")
    @classmethod
    def _all_forecast(cls, opponents: Mapping[SignalSource, str]) -> Mapping[SignalSource, str]:
        wrong = [source.value for source in opponents if not source.is_forecast]
        if wrong:
            raise ValueError(f"{wrong[0]} forecasts nothing; allowed: {_FORECASTS}")
        return opponents

    @field_validator("tuned")
    @classmethod
    def _can_be_set(cls, tuned: tuple[TunedParameters, ...], info: ValidationInfo) -> tuple[TunedParameters, ...]:
        """Set the values of each symbol and regime that is named, to see that the engine can."""
        scopes = [(each.symbol, each.regime) for each in tuned]
        twice = next((each for each in tuned if scopes.count((each.symbol, each.regime)) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice.scope}: found twice; allowed: each symbol and regime once")
        try:
            base = cls.model_validate(info.data) if tuned else None
        except ValidationError:
            return tuned  # what is wrong with the rest is reported without these
        if base is not None:
            _check_tuned(base, tuned)
        return tuned


def _check_tuned(base: TradingConfig, tuned: tuple[TunedParameters, ...]) -> None:
    from fxcast.trading.parameters import ACCOUNT_WIDE, ASKING, with_values  # they set values of the class above

    for each in tuned:
        asking, wide = sorted(ASKING & each.values.keys()), sorted(ACCOUNT_WIDE & each.values.keys())
        if asking:
            raise ValueError(f"{each.scope}: found {asking[0]}; allowed: what changes no question to the forecast service")
        if wide and (each.symbol or each.regime):
            raise ValueError(f"{each.scope}: found {wide[0]}, which is the account's; allowed: for all symbols and regimes")
    for symbol in {None, *(each.symbol for each in tuned)}:
        for regime in {None, *(each.regime for each in tuned)}:
            try:
                with_values(base, tuned_values(tuned, symbol, regime))
            except BadSetting as error:
                named = TunedParameters(symbol=symbol, regime=regime, values={})
                raise ValueError(f"{named.scope}: {error}") from None


_FORECASTS = ", ".join(each.value for each in SignalSource if each.is_forecast)


class CandleSide(StrEnum):
    """Which price the candles are of."""

    BID = "bid"
    MID = "mid"
    ASK = "ask"


class PaperMarketConfig(Settings):
    """The market that the paper broker simulates, and the account it keeps. What is random follows from seed and order id alone."""

    account_currency: str = Field(default="USD", pattern="^[A-Z]{3}$", description="every currency traded must convert to it")
    starting_balance: Decimal = Field(default=Decimal(100_000), gt=0, description="in account currency")
    leverage: Decimal = Field(default=Decimal(30), gt=0, description="units held may be worth this many times the equity")
    margin_closeout_pct: Decimal = Field(
        default=Decimal(50), ge=0, description="all is closed when equity falls to this share of the margin used; 0 for never"
    )
    spread_pips: Decimal = Field(default=Decimal("1.0"), ge=0, description="ask minus bid")
    spread_pips_by_hour: Mapping[int, Decimal] = Field(
        default_factory=dict[int, Decimal], description="the spread in the hours (0 to 23, New York) in which it is another"
    )
    spread_pips_by_symbol: Mapping[str, Mapping[int, Decimal]] = Field(
        default_factory=dict[str, Mapping[int, Decimal]],
        description="the same by symbol and hour; in hours that a symbol does not name, the two above hold",
    )
    slippage_pips: Decimal = Field(default=Decimal("0.1"), ge=0, description="what market orders and stops lose on top")
    commission_per_million: Decimal = Field(
        default=Decimal(0), ge=0, description="for each million of account currency that is bought or sold"
    )
    swap_pct_long: Mapping[str, Decimal] = Field(
        default_factory=dict[str, Decimal], description="interest a year on long positions by symbol, per cent; below zero is paid"
    )
    swap_pct_short: Mapping[str, Decimal] = Field(default_factory=dict[str, Decimal], description="the same on short positions")
    latency_s: Decimal = Field(default=Decimal(0), ge=0, description="from an order to its execution")
    rejection_probability: float = Field(default=0.0, ge=0, lt=1, description="share of entries that are rejected")
    partial_fill_probability: float = Field(default=0.0, ge=0, lt=1, description="share of entries of which only a part is filled")
    seed: int = 0
    min_stop_pips: Decimal = Field(default=Decimal(0), ge=0, description="the least distance of a stop or target from the price")
    candle_side: CandleSide = Field(default=CandleSide.MID, description="which price the candles are of (the sample: ask)")

    @field_validator("spread_pips_by_hour")
    @classmethod
    def _hours_of_a_day(cls, by_hour: Mapping[int, Decimal]) -> Mapping[int, Decimal]:
        for hour, pips in by_hour.items():
            if hour not in range(24):
                raise ValueError(f"found the hour {hour}; allowed: 0 to 23")
            if pips < 0:
                raise ValueError(f"found {pips} pips at {hour}; allowed: zero or more")
        return by_hour

    @field_validator("spread_pips_by_symbol")
    @classmethod
    def _hours_of_each(cls, by_symbol: Mapping[str, Mapping[int, Decimal]]) -> Mapping[str, Mapping[int, Decimal]]:
        for by_hour in by_symbol.values():
            cls._hours_of_a_day(by_hour)
        return by_symbol

    @field_validator("spread_pips_by_symbol", "swap_pct_long", "swap_pct_short")
    @classmethod
    def _by_symbol(cls, by_symbol: Mapping[str, ValueT]) -> Mapping[str, ValueT]:
        wrong = [symbol for symbol in by_symbol if len(symbol) != 6 or not symbol.isalpha() or not symbol.isupper()]
        if wrong:
            raise ValueError(f"found the symbol {wrong[0]!r}; allowed: six capital letters, as in EURUSD")
        return by_symbol
