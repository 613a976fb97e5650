"""Questions of many threads, answered in batches."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service import Batcher, Busy


class Slow:
    """Doubles numbers, but waits in its first batch until it is let go; notes the batches."""

    def __init__(self):
        self.batches, self.started, self.go = [], threading.Event(), threading.Event()

    def __call__(self, numbers):
        self.batches.append(numbers)
        self.started.set()
        assert self.go.wait(10)
        if "wrong" in numbers:
            raise ValueError("that is no number")
        return [2 * number for number in numbers]


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as pool:
        yield pool


def ask_while_busy(batcher, slow, pool, questions):
    """The futures of a first question and of others, which are asked while that one is answered."""
    first = pool.submit(batcher, 0)
    assert slow.started.wait(10)
    others = [pool.submit(batcher, question) for question in questions]
    while batcher.waiting < min(len(questions), 8):
        assert not any(other.done() and other.exception() is None for other in others)
    return [first, *others]


def test_what_waits_is_answered_at_once(slow, pool):
    sizes = []
    batcher = Batcher(slow, most=5, patience=0, waiting=8, seen=sizes.append)
    futures = ask_while_busy(batcher, slow, pool, range(1, 9))
    slow.go.set()
    assert [future.result(10) for future in futures] == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    assert sizes == [1, 5, 3] and sorted(number for batch in slow.batches for number in batch) == list(
        range(9)
    )
    batcher.close()


def test_a_question_has_patience_for_others(pool):
    batches = []

    def double(numbers):
        batches.append(numbers)
        return [2 * number for number in numbers]

    batcher = Batcher(double, most=4, patience=30)
    assert sorted(pool.map(batcher, range(4))) == [0, 2, 4, 6] and len(batches) == 1
    batcher.close()


def test_an_error_is_one_question_s(slow, pool):
    batcher = Batcher(slow, waiting=8, patience=0)
    futures = ask_while_busy(batcher, slow, pool, [1, 2, "wrong", 3])
    slow.go.set()
    with pytest.raises(ValueError, match="no number"):
        futures.pop(3).result(10)
    assert [future.result(10) for future in futures] == [0, 2, 4, 6]
    batcher.close()


def test_more_than_may_wait_is_refused(slow, pool):
    batcher = Batcher(slow, most=1, waiting=2)
    futures = ask_while_busy(batcher, slow, pool, [1, 2])
    with pytest.raises(Busy, match="2 questions are waiting"):
        batcher(3)
    slow.go.set()
    assert [future.result(10) for future in futures] == [0, 2, 4]
    assert batcher(5) == 10
    batcher.close()


def test_closing_answers_what_waits(slow, pool):
    batcher = Batcher(slow, most=1, waiting=8)
    futures = ask_while_busy(batcher, slow, pool, [1, 2, 3])
    closing = [pool.submit(batcher.close) for _ in range(2)]
    slow.go.set()
    assert [future.result(10) for future in futures + closing] == [0, 2, 4, 6, None, None]
    with pytest.raises(RuntimeError, match="closed"):
        batcher(1)


def test_too_few_answers_are_an_error():
    batcher = Batcher(lambda numbers: [])
    with pytest.raises(RuntimeError, match="0 answers to 1 questions"):
        batcher(1)
    batcher.close()
    with pytest.raises(ValueError, match="most is 0"):
        Batcher(lambda numbers: numbers, most=0)
