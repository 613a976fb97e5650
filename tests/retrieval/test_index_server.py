"""The tests of galleries once more, at a real Milvus server, which tests.milvus_server starts.

`CLIPREID_TEST_MILVUS=http://host:19530 pytest tests/retrieval/test_index.py` runs them at a server or cluster
of yours, in databases of their own that they drop.
"""

import os
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("pymilvus")

from tests.milvus_server import NO_SERVER, run_beside_server

pytestmark = [pytest.mark.service, pytest.mark.slow]

FILES = ["test_index.py", "test_index_model.py", "test_index_texts.py"]
SECONDS = 1200


@pytest.mark.skipif(sys.platform != "linux", reason="the server runs in a namespace, which Linux has")
@pytest.mark.skipif("CLIPREID_TEST_MILVUS" in os.environ, reason="the tests run at a server as it is")
def test_galleries_are_the_same_at_a_server(tmp_path):
    files = [str(Path(__file__).with_name(name)) for name in FILES]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", str(tmp_path / "inside")]
    options += ["-k", "not refuse"]  # what never gets there
    done = run_beside_server([sys.executable, "-m", "pytest", *options, *files], timeout=SECONDS)
    if done.returncode == NO_SERVER:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"^[1-9]\d* passed", done.stdout, re.MULTILINE)
    assert not re.search(r"\d skipped", done.stdout)
