"""Numbers for Prometheus: what each is called and means, and a board that keeps them shown.

Ray exports what its processes record from each node's metrics agent, under names that begin with `ray_`. The agent forgets a gauge
that nobody has set for 20 s (two of Ray's reports), so what is to stay shown is set again and again. And a counter is exported from
its first event on, at one: Prometheus would not see that event as an increase. So rare events are counted on the board, from zero.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, Literal, ParamSpec, TypeVar

import ray
import structlog
from ray.util.metrics import Gauge

log = structlog.get_logger(__name__)

Kind = Literal["gauge", "total", "counter", "histogram"]

_EVERY_S = 2.0  # well below the 10 s after which a process reports to its agent

Labels = tuple[tuple[str, str], ...]
SelfT = TypeVar("SelfT")
ParamsT = ParamSpec("ParamsT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A number that Prometheus reads.

    Attributes:
        name: As the code records it.
        kind: A total is a count that a board shows from zero; a counter and a histogram are Ray's own.
        labels: Besides those that Ray adds; few, and of few values each.
        buckets: Upper bounds of a histogram.
    """

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind == "total") != self.name.endswith("_total"):
            raise ValueError(f"{self.name}: a total, and nothing else, ends in _total (Ray puts it behind a counter by itself)")
        if (self.kind == "histogram") != bool(self.buckets):
            raise ValueError(f"{self.name}: a histogram, and nothing else, has buckets")
        if not self.meaning.isascii():
            raise ValueError(f"{self.name}: Ray takes ASCII only, found {self.meaning!r}")

    @property
    def exported(self) -> tuple[str, ...]:
        """The names under which Prometheus finds it."""
        match self.kind:
            case "histogram":
                return tuple(f"ray_{self.name}_{part}" for part in ("bucket", "count", "sum"))
            case "counter":
                return (f"ray_{self.name}_total",)
            case _:
                return (f"ray_{self.name}",)


def harmless(
    method: Callable[Concatenate[SelfT, ParamsT], None],
) -> Callable[Concatenate[SelfT, ParamsT], None]:
    """Let a method that only counts never fail whoever calls it: the first failure is logged."""
    told = False

    @wraps(method)
    def guarded(self: SelfT, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> None:
        nonlocal told
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001  # whatever it is: a number that can't be shown must not stop what trades
            if not told:
                told = True
                log.warning("not counted", method=method.__qualname__, problem=f"{type(error).__name__}: {error}")

    return guarded


class Board:
    """Keeps gauges and totals shown, from a thread of its own; who has news only writes it down.

    Args:
        meters: Gauges and totals; another is refused.
        labels: That all of them have.
        look: Is called before each showing, to write down what is so by then.
    """

    def __init__(self, meters: Sequence[Meter], labels: Mapping[str, str], look: Callable[[], None] = lambda: None) -> None:
        self._meters = {meter.name: meter for meter in meters if meter.kind in ("gauge", "total")}
        self._gauges = {name: Gauge(name, meter.meaning, meter.labels) for name, meter in self._meters.items()}
        self._labels = dict(labels)
        self._look = look
        self._values: dict[tuple[str, Labels], float] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._show_until_closed, name="meters", daemon=True)

    def start(self) -> None:
        """Start to show; without Ray in this process there is nobody to show it to."""
        if ray.is_initialized():
            self._thread.start()

    def close(self) -> None:
        """Stop; does not wait. Ray forgets the gauges within 20 s."""
        self._closing.set()

    def set(self, meter: Meter, value: float, **labels: str) -> None:
        """Write a value down."""
        key = self._key(meter, labels)
        with self._lock:
            self._values[key] = float(value)

    def add(self, meter: Meter, count: float = 1.0, **labels: str) -> None:
        """Add to a total; of zero, it is shown from now on."""
        key = self._key(meter, labels)
        with self._lock:
            self._values[key] = self._values.get(key, 0.0) + count

    def set_each(self, meter: Meter, label: str, values: Mapping[str, float]) -> None:
        """Write the values of all of a label down; what had one before and is not named is zero."""
        for name in {dict(labels)[label] for (known, labels) in self.shown() if known == meter.name} - values.keys():
            self.set(meter, 0.0, **{label: name})
        for name, value in values.items():
            self.set(meter, value, **{label: name})

    def forget(self, meter: Meter) -> None:
        """Show a gauge no longer."""
        with self._lock:
            for key in [key for key in self._values if key[0] == meter.name]:
                del self._values[key]

    def shown(self) -> dict[tuple[str, Labels], float]:
        """Return what is written down, by name and labels."""
        with self._lock:
            return dict(self._values)

    def _key(self, meter: Meter, labels: Mapping[str, str]) -> tuple[str, Labels]:
        known = self._meters[meter.name]
        given = {**self._labels, **labels}
        if given.keys() != set(known.labels):
            raise ValueError(f"{meter.name}: found labels {sorted(given)}; allowed: {sorted(known.labels)}")
        return meter.name, tuple(sorted(given.items()))

    def _show_until_closed(self) -> None:
        while True:
            self._show()
            if self._closing.wait(_EVERY_S):
                return

    @harmless
    def _show(self) -> None:
        self._look()
        for (name, labels), value in self.shown().items():
            self._gauges[name].set(value, dict(labels))
