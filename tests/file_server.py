"""A server of files on 127.0.0.1 that answers requests for the rest of one, and can break off."""

import hashlib
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """`files` are bytes by path; the next answers end at the bytes `cuts`; `seen` are (path, Range).

    Without `ranges` all of a file is sent whatever is asked for; with `silent` nothing is.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.seen, self.cuts = {}, [], []
        self.ranges, self.silent = True, False
        self.address = f"http://127.0.0.1:{self.server_port}"

    def put(self, path, content):
        self.files[f"/{path}"] = content
        return f"{self.address}/{path}"


@contextmanager
def serving_files():
    """A server at work."""
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        content, asked = self.server.files.get(self.path), self.headers.get("Range", "")
        self.server.seen.append((self.path, asked))
        if self.server.silent:
            time.sleep(0.5)
            return
        if not self.server.ranges:
            asked = ""
        end = self.server.cuts.pop(0) if self.server.cuts else None
        if content is None:
            self.send_error(404)
            return
        first = int(asked.removeprefix("bytes=").rstrip("-") or 0)
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        with suppress(OSError):  # who asks for the rest later closes the first answer
            self.wfile.write(content[first:end])
