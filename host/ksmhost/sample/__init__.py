# SPDX-License-Identifier: Apache-2.0
"""Samples of a board's counters: typed, with units, as a stream, and the figures drawn from them.

`stream` reads a live `BoardSession`; `Deriver` turns raw samples into what people ask for
(`Derived`); `schema` says what every counter means. Nothing here knows how a board is reached or
how figures are shown.
"""

from ksmhost.sample.derived import DERIVED, Derived, Deriver, derive
from ksmhost.sample.schema import RAW, Column, Unit, column
from ksmhost.sample.stream import Pacing, stream
from ksmhost.sample.types import Gap, LineBack, LineLost, Sample, StreamItem

__all__ = [
    "DERIVED",
    "RAW",
    "Column",
    "Derived",
    "Deriver",
    "Gap",
    "LineBack",
    "LineLost",
    "Pacing",
    "Sample",
    "StreamItem",
    "Unit",
    "column",
    "derive",
    "stream",
]
