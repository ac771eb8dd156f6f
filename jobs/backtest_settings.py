"""What backtests and walk-forwards have in common: what is traded, on which market, and where forecasts are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

from pydantic import Field

from fxcast.cluster.batch_forecast import Workers
from fxcast.config import JobSettings
from fxcast.trading.config import Pairs, PaperMarketConfig, TradingConfig
from jobs.symbol_options import together
from jobs.tuned_parameters import PARAMS, Parameters, with_parameters

BenchmarkKey = Literal["no-scaling", "sssd", "random-walk", "buy-and-hold"]

_ALSO = {"--from": "--start", "--to": "--stop"}


class TradedSettings(JobSettings):
    """What is traded, on which market."""

    symbols: Pairs = Field(default=("EURUSD",), min_length=1, description="what is traded")
    conversion_symbols: Pairs = Field(
        default=(), description="followed for their prices alone, to convert currencies to the account's"
    )
    timeframe: str = Field(default="1h", description="length of a candle")
    store: str = Field(default="runs/store", description="root of the candle store")
    sample: bool = Field(default=False, description="trade the packaged sample (hourly EUR/USD of 2017, asks), not a store")
    database_url: str = Field(default="sqlite:///runs/fxcast.db", repr=False, description="registry of models, record of backtests")
    trading: TradingConfig = Field(default=TradingConfig(), description="the engine's settings, as jobs.trade has them")
    params: str | None = Field(default=None, description=PARAMS)
    market: PaperMarketConfig = Field(default=PaperMarketConfig(), description="what the simulated market charges, and the account")
    spreads: Literal["measured", "stated"] = Field(
        default="measured", description="by hour of day from the store's quotes where it has them, or those of `market`"
    )
    inner_candles: bool = Field(
        default=True, description="let shorter candles of the store say whether a stop or a target came first; else the stop did"
    )
    separately: bool = Field(
        default=False, description="each symbol on an account of its own with its share of the balance, side by side on the cluster"
    )
    benchmarks: tuple[BenchmarkKey, ...] = Field(
        default=("no-scaling", "sssd", "random-walk", "buy-and-hold"), description="what is traded beside it, for comparison"
    )
    forecasts: str = Field(default="runs/forecasts", description="where forecasts are kept, a folder or an object store")
    actors: int | None = Field(default=None, ge=1, description="forecasters at work at once; by default one a CPU, or GPU share")
    gpus_each: float = Field(default=0.0, ge=0, description="GPUs of each of them")
    batch_windows: int = Field(default=16, ge=1, description="windows sampled at once; more take more memory")
    draws: int = Field(default=1000, ge=100, description="bootstrap draws of every interval")
    seed: int = Field(default=0, description="of the bootstrap")

    @property
    def followed(self) -> tuple[str, ...]:
        """All symbols whose candles an engine sees."""
        return tuple(dict.fromkeys((*self.symbols, *self.conversion_symbols)))

    @property
    def workers(self) -> Workers:
        """What forecasts are computed on."""
        return Workers(actors=self.actors, gpus_each=self.gpus_each, batch_windows=self.batch_windows)


TradedT = TypeVar("TradedT", bound=TradedSettings)


def with_params(settings: TradedT) -> tuple[TradedT, Parameters]:
    """Return the settings that are really traded, in which `params` is resolved and gone, and where their values come from.

    Raises:
        BadSetting, BadSetup: As `with_parameters`.
    """
    if settings.params is None:
        return settings, Parameters(trading=settings.trading)
    found = with_parameters(settings.trading, settings.params, settings.symbols, settings.timeframe, settings.database_url)
    return settings.model_copy(update={"trading": found.trading, "params": None}), found


def renamed(arguments: Sequence[str]) -> list[str]:
    """Return a command line with --from and --to, which can't be names in Python, as --start and --stop; symbols in one word."""
    parts = [argument.split("=", 1) for argument in together(arguments)]
    return ["=".join([_ALSO.get(name, name), *value]) for name, *value in parts]
