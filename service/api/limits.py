"""How much a server takes on: bytes, requests, and requests of one client per second."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from utils.untrusted.plain import MEBIBYTE

_CLIENTS = 10_000  # of which rates are kept
_NETWORK = 64  # bits of an IPv6 address that name its owner, who may take any address behind them


@dataclass(frozen=True)
class Limits:
    """The load that a server takes on; the rest is refused with a status of 413, 408, 422 or 429.

    `max_bytes` of one body, which has `patience` seconds to arrive, as each piece of an answer has to be
    read; `queue` requests and `memory` bytes of bodies and answers at the same time, of which `threads`
    requests are worked on; `rate` requests per second of one client, or twice as many at once after a pause
    (0: no limit); `most_hits` of one search. A client of another machine takes half of the queue at most.
    """

    max_bytes: int = 10 * MEBIBYTE
    queue: int = 256
    memory: int = 256 * MEBIBYTE
    rate: float = 50.0
    patience: float = 30.0
    threads: int = 64
    most_hits: int = 1000

    def __post_init__(self) -> None:
        for name in ("max_bytes", "queue", "threads", "most_hits"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 1 or more")
        if self.memory < 2 * self.max_bytes:
            raise ValueError(
                f"memory is {self.memory:,}; allowed: {2 * self.max_bytes:,}, twice max_bytes, or more"
            )
        if not 0 <= self.rate < math.inf:
            raise ValueError(f"rate is {self.rate}; allowed: requests per second, 0 for no limit")
        if not 0 < self.patience < math.inf:
            raise ValueError(f"patience is {self.patience}; allowed: seconds, more than 0")


class Rates:
    """A bucket of tokens for each client, which fills with `rate` tokens per second up to twice as many.

    Only the clients seen last are remembered, so that many addresses take no memory.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._clock = rate, max(2 * rate, 1.0), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens at a time
        self._lock = threading.Lock()

    def take(self, address: str) -> float:
        """Take a token of a client; 0, or the seconds until there is one."""
        if not self._rate:
            return 0.0
        client, now = owner_of(address), self._clock()
        with self._lock:
            tokens, at = self._buckets.pop(client, (self._most, now))
            tokens = min(tokens + (now - at) * self._rate, self._most)
            wait = max((1 - tokens) / self._rate, 0.0)
            self._buckets[client] = (tokens if wait else tokens - 1, now)
            if len(self._buckets) > _CLIENTS:
                self._buckets.popitem(last=False)
        return wait


def is_local(address: str) -> bool:
    """Whether a client is on this machine, as a proxy is that stands for many."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # of a socket file
        return True


def owner_of(address: str) -> str:
    """Who a client's address belongs to: of IPv6 its network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # of a socket file
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(parsed), _NETWORK), strict=False))
    return address
