# SPDX-License-Identifier: Apache-2.0
"""One source, many readers, none of which can hold up the source."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")
_DEPTH = 4096


class Stream(Generic[T]):
    """One reader's queue: an async iterator that ends when the source does."""

    def __init__(self) -> None:
        self._items: deque[T] = deque(maxlen=_DEPTH)
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, item: T) -> None:
        """Add an item; the oldest goes when the reader is too far behind."""
        self._items.append(item)
        self._wake.set()

    def end(self) -> None:
        """No more will come: the reader gets what is left, then stops."""
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._items.popleft()


class Fanout(Generic[T]):
    """Hands every item to every stream that somebody still holds."""

    def __init__(self) -> None:
        self._streams: WeakSet[Stream[T]] = WeakSet()
        self._closed = False

    def stream(self) -> Stream[T]:
        """A stream of what is published from now on."""
        stream: Stream[T] = Stream()
        if self._closed:
            stream.end()
        self._streams.add(stream)
        return stream

    def publish(self, item: T) -> None:
        """Give `item` to all streams."""
        for stream in list(self._streams):
            stream.put(item)

    def close(self) -> None:
        """End all streams, and those asked for later."""
        self._closed = True
        for stream in list(self._streams):
            stream.end()
