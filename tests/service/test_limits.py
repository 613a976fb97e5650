"""Limits of a server, and rates of its clients."""

import pytest

from service.api import Limits
from service.api.limits import Rates


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_bucket_fills_with_time():
    clock = Clock()
    rates = Rates(2, clock)
    assert [rates.take("1.2.3.4") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert rates.take("1.2.3.5") == 0
    clock.now = 0.25
    assert rates.take("1.2.3.4") == 0.25
    clock.now = 0.5
    assert rates.take("1.2.3.4") == 0 and rates.take("1.2.3.4") == 0.5
    clock.now = 100
    assert [rates.take("1.2.3.4") for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_slow_rates_let_one_pass():
    clock = Clock()
    rates = Rates(0.1, clock)
    assert [rates.take("1.2.3.4") for _ in range(2)] == [0, 10]
    clock.now = 10
    assert rates.take("1.2.3.4") == 0


def test_no_rate_lets_all_pass():
    assert not any(Rates(0).take("1.2.3.4") for _ in range(1000))


def test_an_owner_of_ipv6_addresses_is_one_client():
    rates = Rates(0.5, Clock())
    assert [rates.take(f"2001:db8::{i:x}") for i in range(2)] == [0, 2]
    assert rates.take("2001:db8:0:1::1") == 0 and rates.take("::ffff:1.2.3.4") == 0
    assert rates.take("::ffff:1.2.3.5") == 0 and rates.take("socket") == 0 and rates.take("socket") == 2


def test_many_clients_take_no_memory(monkeypatch):
    monkeypatch.setattr("service.api.limits._CLIENTS", 100)
    rates = Rates(0.5, Clock())
    for i in range(1000):
        assert rates.take(f"10.0.{i // 256}.{i % 256}") == 0
    assert len(rates._buckets) == 100 and rates.take("10.0.3.231") == 2


@pytest.mark.parametrize(
    "limits",
    [
        {"max_bytes": 0},
        {"queue": 0},
        {"threads": -1},
        {"most_hits": 0},
        {"memory": 1},
        {"rate": -1},
        {"rate": float("nan")},
        {"patience": 0},
    ],
)
def test_limits_that_cannot_be(limits):
    with pytest.raises(ValueError, match=f"{next(iter(limits))} is .*; allowed"):
        Limits(**limits)
