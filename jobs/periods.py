"""Which candles a training job learns from, validates on, and never sees."""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime, Field

from fxcast.cluster.train_plan import plan_periods
from fxcast.config import JobSettings
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.domain.timeframe import Timeframe
from fxcast.models.config import LDM4TSConfig

Span = tuple[datetime, datetime]  # half-open, of open times


class PeriodSettings(JobSettings):
    """Series, and how their time is divided; the same for a model and its opponents, so that they can be compared."""

    store: str = Field(default="runs/store", description="root of the candle store")
    symbols: tuple[str, ...] = Field(default=("EURUSD",), min_length=1, description="series to train on")
    timeframe: str = Field(default="1h", description="length of a candle")
    validation_share: float = Field(default=0.17, gt=0, lt=1, description="share of the candles for early stopping and calibration")
    test_share: float = Field(default=0.18, gt=0, lt=1, description="share of the candles, the newest, that training never sees")
    validation_from: AwareDatetime | None = Field(
        default=None, description="with test_from, instead of the shares: where validation begins"
    )
    test_from: AwareDatetime | None = Field(default=None, description="where the time begins that training never sees")
    until: AwareDatetime | None = Field(default=None, description="candles that open later do not exist for this run")

    def first_series(self) -> CandleSeries:
        """Read the first symbol's candles: the periods are cut from them."""
        return CandleStore(self.store).read(self.symbols[0], Timeframe(self.timeframe), stop=self.until)

    def periods(self, series: CandleSeries, config: LDM4TSConfig) -> tuple[Span, Span, Span]:
        """Return train, validation and test, purged by the model's longest horizon.

        Raises:
            BadCandles: If a period is too short for one window and its outcome.
            BadSetting: If one moment is given without the other, or they are not in order.
        """
        return plan_periods(
            series,
            config,
            validation_share=self.validation_share,
            test_share=self.test_share,
            validation_from=self.validation_from,
            test_from=self.test_from,
        )
