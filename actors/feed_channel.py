"""What a feed has published of late, by sequence number, for subscribers that come, go and fall behind."""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fxcast.adapters.feeds.port import FeedCandles

_MOST_AT_ONCE = 10_000  # candles of one answer: about 10 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Candles that are stored; the first has this sequence number, and each further one the next."""

    sequence: int
    candles: FeedCandles

    @property
    def last(self) -> int:
        """Sequence number of the last candle."""
        return self.sequence + len(self.candles.data) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """An answer to a subscriber.

    Attributes:
        epoch: Names the life of the feed's process that the sequence numbers belong to; they begin anew with each.
        last: Sequence number to ask after next.
        published: What came after the number asked for, in order; empty if nothing came in time.
        is_behind: Candles came in between that are no longer kept, or of which another life of the process knew: all up to `last`
            are in the store, and must be read there.
        is_over: Nothing comes any more.
    """

    epoch: str
    last: int
    published: tuple[Published, ...]
    is_behind: bool
    is_over: bool


class FeedChannel:
    """Keeps the latest candles and wakes whoever waits for more; for any number of threads.

    Args:
        kept_candles: How many are kept, at least.
    """

    def __init__(self, kept_candles: int) -> None:
        self._kept_candles = kept_candles
        self._epoch = uuid.uuid4().hex
        self._kept: deque[Published] = deque()
        self._last = 0
        self._is_over = False
        self._changed = threading.Condition()

    def publish(self, batch: Sequence[FeedCandles]) -> None:
        """Number candles and hand them to the subscribers that wait."""
        with self._changed:
            for candles in batch:
                published = Published(sequence=self._last + 1, candles=candles)
                self._kept.append(published)
                self._last = published.last
            while self._kept and self._last - self._kept[0].last >= self._kept_candles:
                self._kept.popleft()
            self._changed.notify_all()

    def end(self) -> None:
        """Say that nothing comes any more."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def after(self, epoch: str, sequence: int | None, timeout_s: float) -> News:
        """Return what was published after a sequence number, as soon as there is something.

        Args:
            epoch: Of the last answer; empty for the first question.
            sequence: `last` of the last answer; None asks where the feed is, and is answered at once without candles.
            timeout_s: How long to wait for news.
        """
        with self._changed:
            if sequence is None:
                return self._news(self._last, ())
            if epoch != self._epoch or sequence > self._last or sequence < self._first_kept() - 1:
                return self._news(self._last, (), is_behind=True)
            self._changed.wait_for(lambda: self._last > sequence or self._is_over, timeout_s)
            if sequence < self._first_kept() - 1:  # more came at once than is kept
                return self._news(self._last, (), is_behind=True)
            found = list[Published]()
            count = 0
            for published in self._kept:
                if published.last > sequence and count < _MOST_AT_ONCE:
                    found.append(_beyond(published, sequence))
                    count += len(found[-1].candles.data)
            return self._news(found[-1].last if found else sequence, tuple(found))

    def _first_kept(self) -> int:
        return self._kept[0].sequence if self._kept else self._last + 1

    def _news(self, last: int, published: tuple[Published, ...], *, is_behind: bool = False) -> News:
        is_over = self._is_over and last == self._last
        return News(epoch=self._epoch, last=last, published=published, is_behind=is_behind, is_over=is_over)


def _beyond(published: Published, sequence: int) -> Published:
    known = sequence - published.sequence + 1
    if known <= 0:
        return published
    data = published.candles.data
    rest = replace(published.candles, data=data.slice(known, len(data)))
    return Published(sequence=sequence + 1, candles=rest)
