"""The gate of a server, in front of an app that answers with many bytes."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi")

from service.api import Gate, Limits, Metrics

BODY = bytes(range(256)) * 2000  # eight pieces
REQUEST = {
    "type": "http",
    "method": "GET",
    "path": "/images/a",
    "headers": [(b"host", b"localhost")],
    "client": ("127.0.0.1", 1),
}


def run(work):
    """The result of a coroutine, in a thread of its own: a browser's tests leave a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def answer_at_length(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": BODY})


async def nothing():
    return {"type": "http.request", "body": b"", "more_body": False}


def make_gate(**limits):
    return Gate(answer_at_length, limits=Limits(**limits), key="", hosts=(), metrics=Metrics())


def test_an_answer_goes_out_in_pieces():
    sent = []

    async def send(message):
        sent.append(message)

    run(make_gate()(REQUEST, nothing, send))
    start, *pieces = sent
    assert start["status"] == 200 and len(pieces) == 8
    assert b"".join(piece["body"] for piece in pieces) == BODY
    assert [piece["more_body"] for piece in pieces] == [True] * 7 + [False]


def test_who_does_not_read_holds_the_memory_for_a_while_only():
    sent = {"slow": [], "other": []}

    async def ask():
        gate = make_gate(max_bytes=1000, memory=len(BODY) + 1, patience=0.2)

        async def stop_reading(message):
            if len(sent["slow"]) == 3:
                await asyncio.sleep(3600)
            sent["slow"].append(message)

        async def read(message):
            sent["other"].append(message)

        slow = asyncio.create_task(gate(REQUEST, nothing, stop_reading))
        await asyncio.sleep(0.05)
        await gate(REQUEST, nothing, read)
        refused = sent["other"][0]["status"]
        await asyncio.wait_for(slow, 5)
        sent["other"].clear()
        await gate(REQUEST, nothing, read)
        return refused, sent["other"][0]["status"]

    assert run(ask()) == (429, 200)
    assert len(sent["slow"]) == 3  # of a connection that the server then closes


@pytest.mark.parametrize(("address", "passed"), [("10.0.0.7", 2), ("127.0.0.1", 4)])
def test_another_machine_takes_half_of_the_queue(address, passed):
    statuses = []

    async def wait(scope, receive, send):
        await asyncio.sleep(0.1)
        await answer_at_length(scope, receive, send)

    async def ask(gate, client):
        async def read(message):
            if message["type"] == "http.response.start":
                statuses.append((client, message["status"]))

        await gate(REQUEST | {"client": (client, 1)}, nothing, read)

    async def ask_all():
        gate = Gate(wait, limits=Limits(queue=5), key="", hosts=(), metrics=Metrics())
        await asyncio.gather(*[ask(gate, address) for _ in range(4)], ask(gate, "10.0.0.8"))
        await ask(gate, address)  # the others have ended

    run(ask_all())
    assert statuses.count((address, 200)) == passed + 1 and statuses.count((address, 429)) == 4 - passed
    assert ("10.0.0.8", 200) in statuses
