"""Clients of a server: each asks, waits for the answer, and asks again."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
import numpy as np
import psutil

from benchmarks.serve.setting import Setting

_PATIENCE = 60.0  # seconds for an answer
# Shares of a hundred requests. A picture that is added is removed again.
_KINDS = {"search by picture": 85, "search by key": 8, "picture": 5, "add and remove": 2}


@dataclass
class Load:
    """Measurements of clients: seconds of answered requests by kind, statuses of all (0: none), and memory.

    `resident` are the server's bytes over time.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in _KINDS})
    statuses: Counter[int] = field(default_factory=Counter)
    resident: list[int] = field(default_factory=list)
    lasted: float = 0.0

    def row(self, kind: str) -> str:
        """A line of the table."""
        found = np.array(self.seconds[kind])
        if not len(found):
            return f"| {kind} | 0 | – | – | – |"
        p50, p99 = np.percentile(found, [50, 99])
        return f"| {kind} | {len(found):,} | {p50:.2f} | {p99:.2f} | {found.max():.2f} |"

    @property
    def rate(self) -> float:
        """Requests answered with success per second."""
        return sum(map(len, self.seconds.values())) / self.lasted

    @property
    def ok(self) -> bool:
        """Whether all were answered, refusals because of too many among them."""
        return all(200 <= status < 300 or status == 429 for status in self.statuses)


async def load(address: str, process: psutil.Process, setting: Setting, clients: int, seconds: float) -> Load:
    """So many clients ask for so many seconds; those that are refused wait as they are told."""
    found = Load()
    started = time.perf_counter()
    until = started + seconds
    tasks = [_client(address, setting, found, until, random.Random(i)) for i in range(clients)]
    await asyncio.gather(_watch(process, found, until), *tasks)
    found.lasted = time.perf_counter() - started
    return found


async def _watch(process: psutil.Process, found: Load, until: float) -> None:
    while time.perf_counter() < until:
        found.resident.append(process.memory_info().rss)
        await asyncio.sleep(0.5)


async def _client(address: str, setting: Setting, found: Load, until: float, draw: random.Random) -> None:
    # A pool of one connection each: in one for all, httpx looks at each connection for each request.
    async with httpx.AsyncClient(base_url=address, timeout=_PATIENCE, trust_env=False, verify=False) as http:  # noqa: S501
        while time.perf_counter() < until:
            (kind,) = draw.choices(list(_KINDS), list(_KINDS.values()))
            started = time.perf_counter()
            try:
                answer = await _ask(http, kind, setting, draw)
            except httpx.HTTPError:
                found.statuses[0] += 1
                continue
            found.statuses[answer.status_code] += 1
            if answer.is_success:
                found.seconds[kind].append(time.perf_counter() - started)
            if answer.status_code == 429:
                await asyncio.sleep(float(answer.headers["retry-after"]) * draw.uniform(0.5, 1.5))


async def _ask(http: httpx.AsyncClient, kind: str, setting: Setting, draw: random.Random) -> httpx.Response:
    number = draw.randrange(len(setting.pictures))
    if kind == "picture":
        return await http.get(f"/images/{setting.keys[number]}")
    if kind == "search by key":
        return await http.post("/search", json={"key": setting.keys[number], "k": 10})
    data = setting.pictures[number]
    if kind == "search by picture":
        return await http.post("/search", files={"image": ("a.jpg", data)}, data={"k": "10"})
    # Bytes behind the end of a JPEG file make another picture of it.
    answer = await http.post(
        "/images", files={"image": ("a.jpg", data + draw.randbytes(8))}, data={"camera": "c0"}
    )
    if answer.is_success:
        answer = await http.delete(answer.json()["picture"])
    return answer
