# SPDX-License-Identifier: Apache-2.0
"""A small web portal (CPython) without its sockets: requests are made up, routed and answered.

What all workers hold alike: modules, templates, translations, static files. What each holds for
itself: sessions, a cache of pages, its log. Runs for ever, one round a second. From the
environment: KSMHOST_SEED, KSMHOST_INDEX (which worker this is),
KSMHOST_ROUNDS (end after so many).
"""

import argparse
import collections
import csv
import dataclasses
import datetime
import decimal
import functools
import html
import http.cookies
import io
import json
import logging
import os
import random
import re
import string
import textwrap
import time
import urllib.parse

LANGUAGES = ("de", "en", "es", "fr", "it", "pt")
MESSAGES = 1200
VOCABULARY = 1500
STATIC_FILES = 24
SESSIONS = 1500
CACHED_PAGES = 200
LOG_LINES = 1000
REQUESTS_A_ROUND = 10

PAGE = string.Template(
    "<!doctype html><html lang=$language><head><title>$title</title></head><body>"
    "<nav>$menu</nav><main><h1>$title</h1><p>$text</p><table>$rows</table></main></body></html>"
)
ROUTES = (
    (re.compile(r"^/item/(?P<number>\d+)$"), "item"),
    (re.compile(r"^/search\?(?P<query>.*)$"), "search"),
    (re.compile(r"^/static/(?P<number>\d+)$"), "static"),
    (re.compile(r"^/account$"), "account"),
)


@dataclasses.dataclass(slots=True)
class Session:
    """What a worker remembers of one visitor."""

    name: str
    language: str
    basket: list[int]
    paid: decimal.Decimal
    seen: datetime.datetime


@functools.cache
def number(name: str, default: int) -> int:
    """A whole number from the environment."""
    return int(os.environ.get(name, default))


def _vocabulary() -> list[str]:
    source = random.Random(0)
    letters = "abdefghiklmnoprstuvw"
    return ["".join(source.choices(letters, k=source.randrange(3, 10))) for _ in range(VOCABULARY)]


WORDS = _vocabulary()


def words(source: random.Random, count: int) -> str:
    """Text of `count` made-up words."""
    return " ".join(source.choices(WORDS, k=count))


class Site:
    """What is the same in every worker: loaded before anything else."""

    def __init__(self, seed: int) -> None:
        source = random.Random(seed)
        self.static = [
            source.randbytes(source.randrange(4, 160) * 1024) for _ in range(STATIC_FILES)
        ]
        keys = [words(source, 3) for _ in range(MESSAGES)]
        self.translations = {
            language: {key: words(source, 6) for key in keys} for language in LANGUAGES
        }
        self.keys = keys
        self.menu = "".join(f"<a href=/item/{n}>{html.escape(keys[n])}</a>" for n in range(20))


class Worker:
    """One worker's own state."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.random = random.Random(seed)
        self.sessions = [self._session() for _ in range(SESSIONS)]
        self.pages: collections.OrderedDict[str, str] = collections.OrderedDict()
        self.log: collections.deque[str] = collections.deque(maxlen=LOG_LINES)
        self.served_bytes = 0

    def _session(self) -> Session:
        return Session(
            name=words(self.random, 2),
            language=self.random.choice(LANGUAGES),
            basket=self.random.sample(range(MESSAGES), k=5),
            paid=decimal.Decimal(self.random.randrange(100000)) / 100,
            seen=datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC),
        )

    def request(self) -> str:
        """The path a visitor asks for."""
        number = self.random.randrange(MESSAGES)
        query = urllib.parse.urlencode({"q": words(self.random, 2), "page": number % 9})
        paths = (
            f"/item/{number}",
            f"/search?{query}",
            f"/static/{number % STATIC_FILES}",
            "/account",
        )
        return self.random.choice(paths)

    def serve(self, path: str) -> None:
        """Routes one request, answers it and writes the log."""
        session = self.random.choice(self.sessions)
        for pattern, name in ROUTES:
            match = pattern.match(path)
            if match:
                body = getattr(self, f"_{name}")(session, **match.groupdict())
                self.served_bytes += len(body)
                self.log.append(
                    json.dumps({"path": path, "bytes": len(body), "name": session.name})
                )
                return

    def _static(self, session: Session, number: str) -> bytes:
        return self.site.static[int(number)]

    def _item(self, session: Session, number: str) -> str:
        return self._page(session, int(number), [int(number)])

    def _search(self, session: Session, query: str) -> str:
        asked = urllib.parse.parse_qs(query)["q"][0].split()[0][:2]
        found = [n for n, key in enumerate(self.site.keys) if asked in key][:10]
        return self._page(session, 0, found)

    def _account(self, session: Session) -> str:
        cookie = http.cookies.SimpleCookie({"visitor": session.name})
        session.paid += decimal.Decimal("0.25")
        return self._page(session, session.basket[0], session.basket) + cookie.output()

    def _page(self, session: Session, number: int, items: list[int]) -> str:
        texts = self.site.translations[session.language]
        rows = "".join(f"<tr><td>{n}<td>{texts[self.site.keys[n]]}" for n in items)
        title = html.escape(texts[self.site.keys[number]])
        text = textwrap.fill(f"{session.name}: {title} {session.paid}", 60)
        page = PAGE.substitute(
            language=session.language, title=title, menu=self.site.menu, text=text, rows=rows
        )
        self.pages[f"{session.name} {number}"] = page
        while len(self.pages) > CACHED_PAGES:
            self.pages.popitem(last=False)
        return page

    def statement(self) -> str:
        """The day's account, as CSV."""
        out = io.StringIO()
        csv.writer(out).writerows((s.name, s.language, s.paid) for s in self.sessions[:100])
        return out.getvalue()


def main() -> None:
    """Loads the site, then serves made-up visitors."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=number("KSMHOST_ROUNDS", 0))
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    seed = number("KSMHOST_SEED", 1)
    worker = Worker(Site(seed), seed * 1000 + number("KSMHOST_INDEX", 0) + 1)
    done = 0
    while not options.rounds or done < options.rounds:
        for _ in range(REQUESTS_A_ROUND):
            worker.serve(worker.request())
        if done % 60 == 0:
            worker.statement()
        done += 1
        time.sleep(1)
    print(worker.served_bytes, len(worker.pages), len(worker.log))


if __name__ == "__main__":
    main()
