"""Looking at many moments at once gives what looking at each gives."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from fxcast.domain.calendar import NEW_YORK, is_open, new_york_offset, open_mask, open_sessions, session_masks
from fxcast.domain.candle import to_datetime64

moments_of_years = st.lists(
    st.integers(946_684_800, 1_893_456_000).map(lambda second: datetime.fromtimestamp(second, tz=UTC)), min_size=1, max_size=60
)
# Hours around clock changes, holidays, and the turns of the week.
TURNS = [
    datetime(year, month, day, hour, 30, tzinfo=UTC)
    for year, month, day in (
        (2024, 3, 10),
        (2024, 3, 31),
        (2024, 10, 27),
        (2024, 11, 3),
        (2024, 4, 7),
        (2024, 12, 24),
        (2025, 1, 1),
    )
    for hour in range(24)
]


@given(moments=moments_of_years)
@example(moments=TURNS)
def test_masks_of_many_moments_are_those_of_each(moments: list[datetime]) -> None:
    times = np.array([to_datetime64(moment) for moment in moments])
    assert open_mask(times).tolist() == [is_open(moment) for moment in moments]
    masks = session_masks(times)
    for position, moment in enumerate(moments):
        assert tuple(name for name, mask in masks.items() if mask[position]) == open_sessions(moment)
    offsets = [moment.astimezone(NEW_YORK).utcoffset() for moment in moments]
    assert [offset.total_seconds() for offset in offsets if offset is not None] == new_york_offset(times).astype(int).tolist()


def test_no_moments_give_no_answers() -> None:
    nothing = np.empty(0, dtype="datetime64[s]")
    assert open_mask(nothing).tolist() == new_york_offset(nothing).tolist() == []
    assert all(not len(mask) for mask in session_masks(nothing).values())
