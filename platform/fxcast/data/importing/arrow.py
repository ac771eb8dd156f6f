"""Columns of text, worked on as a whole by pyarrow, whose compute functions are made at run time and publish no types."""

from __future__ import annotations

from typing import Any, TypeAlias

import pyarrow.compute

compute: Any = pyarrow.compute
TextColumn: TypeAlias = Any  # an array of strings, (rows,)
Fields: TypeAlias = Any  # an array of lists of strings, (rows,)
