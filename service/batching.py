"""Batches of questions that many threads ask: one thread takes all that are waiting and answers them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Busy(RuntimeError):
    """More is waiting than a service takes on; the caller may ask again later."""


class Batcher(Generic[Question, Answer]):
    """Answers questions by `answer`, which maps up to `most` of them to as many answers.

    `answer` runs in one thread. A question waits for those before it and, at most `patience` seconds, for
    others to share its batch. At most `waiting` questions wait. `seen` is called with the size of each batch.
    """

    def __init__(
        self,
        answer: Callable[[list[Question]], Sequence[Answer]],
        *,
        most: int = 32,
        patience: float = 0.002,
        waiting: int = 256,
        seen: Callable[[int], object] = lambda size: None,
    ) -> None:
        for name, value in (("most", most), ("waiting", waiting)):
            if value < 1:
                raise ValueError(f"{name} is {value}; allowed: 1 or more")
        self._answer, self._most, self._patience, self._seen = answer, most, patience, seen
        # None ends the thread.
        self._questions: queue.Queue[tuple[Question, Future[Answer]] | None] = queue.Queue(waiting)
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __call__(self, question: Question) -> Answer:
        """The answer to a question. Raises Busy, RuntimeError behind `close`, and what `answer` raises."""
        future: Future[Answer] = Future()
        with self._closing:
            if self._closed:
                raise RuntimeError("the service is closed")
            try:
                self._questions.put_nowait((question, future))
            except queue.Full:
                raise Busy(f"{self._questions.maxsize} questions are waiting; ask again later") from None
        return future.result()

    @property
    def waiting(self) -> int:
        """How many questions wait for the next batches."""
        return self._questions.qsize()

    def close(self) -> None:
        """Answer what is waiting, then end the thread."""
        with self._closing:
            already, self._closed = self._closed, True
        if not already:
            self._questions.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_open = True
        while is_open:
            first = self._questions.get()
            if first is None:
                return
            batch = [first]
            until = time.monotonic() + self._patience
            while len(batch) < self._most:
                try:
                    following = self._questions.get(timeout=max(until - time.monotonic(), 0))
                except queue.Empty:
                    break
                if following is None:
                    is_open = False
                    break
                batch.append(following)
            self._seen(len(batch))
            self._resolve(batch)

    def _resolve(self, batch: list[tuple[Question, Future[Answer]]]) -> None:
        questions, futures = zip(*batch, strict=True)
        try:
            answers = self._answer(list(questions))
            if len(answers) != len(questions):
                raise RuntimeError(f"{len(answers)} answers to {len(questions)} questions")
        except Exception as error:
            if len(batch) == 1:
                futures[0].set_exception(error)
                return
            for single in batch:  # an error is one question's: the others are answered
                self._resolve([single])
            return
        for future, answer in zip(futures, answers, strict=True):
            future.set_result(answer)
