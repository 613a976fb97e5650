"""A stub of the Hugging Face Hub on 127.0.0.1, as much of it as downloads and uploads ask for."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISIONS = {"main": "a" * 40, "v1": "b" * 40}


class HubServer(ThreadingHTTPServer):
    """`repos` are files by path, by repository; `seen` are requests; those to `refused` ones end with 403."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos, self.objects, self.seen = {}, {}, []
        self.refused, self.private = set(), set()
        self.address = f"http://127.0.0.1:{self.server_port}"

    def environment(self, home):
        """The variables of a process that talks to this server and keeps its cache in `home`."""
        flags = ("DISABLE_TELEMETRY", "DISABLE_PROGRESS_BARS", "DISABLE_UPDATE_CHECK", "DISABLE_XET")
        switches = {f"HF_HUB_{flag}": "1" for flag in flags}
        return {"HF_ENDPOINT": self.address, "HF_HOME": str(home), "HF_TOKEN": "hf_stub", **switches}


@contextmanager
def serving():
    """A server at work."""
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _send(self, status, content=b"", **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_GET(self):
        body, path = self._body(), self.path.split("?")[0]
        self.server.seen.append(f"{self.command} {path}")
        words = path.strip("/").split("/")
        repo = "/".join(words[2:4] if words[0] == "api" else words[:2])
        if repo in self.server.refused or (path == "/api/repos/create" and self.server.refused):
            return self._send(403, {"error": "You have no rights here"})
        if self.command in ("POST", "PUT"):
            return self._take(path, words, repo.removesuffix(".git"), body)
        files = self.server.repos.get(repo)
        if files is None:
            return self._send(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        revision = words[5] if words[0] == "api" else words[3]
        commit = REVISIONS.get(revision, revision)
        if commit not in REVISIONS.values():
            return self._send(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        if words[0] != "api":
            return self._send_file(files.get("/".join(words[4:])), commit)
        if words[4] == "tree":
            entries = [{"path": name, "size": len(text), "oid": _sha(text)} for name, text in files.items()]
            return self._send(200, [{"type": "file", **entry} for entry in entries])
        names = [{"rfilename": name} for name in files]
        return self._send(200, {"id": repo, "sha": commit, "private": False, "tags": [], "siblings": names})

    do_HEAD = do_POST = do_PUT = do_GET

    def _send_file(self, content, commit):
        if content is None:
            return self._send(404, X_Error_Code="EntryNotFound")
        return self._send(200, content, ETag=f'"{_sha(content)}"', X_Repo_Commit=commit)

    def _take(self, path, words, repo, body):
        """Answer a step of an upload."""
        server = self.server
        if words[0] == "objects":
            server.objects[words[1]] = body
            return self._send(200)
        content = [json.loads(line) for line in body.splitlines()]
        if path == "/api/repos/create":
            (asked,) = content
            name = f"{asked['organization']}/{asked['name']}"
            if name in server.repos:
                return self._send(409, {"error": "You already created this model repo"})
            server.repos[name] = {}
            if asked.get("private") or asked.get("visibility") == "private":
                server.private.add(name)
            return self._send(200, {"url": f"{server.address}/{name}", "id": "1"})
        if path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        if path.endswith("/objects/batch"):
            tickets = [self._ticket(each) for each in content[0]["objects"]]
            return self._send(200, {"transfer": "basic", "objects": tickets})
        if words[4] == "preupload":
            return self._send(200, {"files": [_mode(file["path"]) for file in content[0]["files"]]})
        for line in content:
            value = line["value"]
            if line["key"] == "file":
                server.repos[repo][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                server.repos[repo][value["path"]] = server.objects[value["oid"]]
        commit = REVISIONS["main"]
        address = f"{server.address}/{repo}/commit/{commit}"
        answer = {"success": True, "commitOid": commit, "commitUrl": address, "hookOutput": ""}
        return self._send(200, {**answer, "pullRequestUrl": None})

    def _ticket(self, asked):
        upload = {"upload": {"href": f"{self.server.address}/objects/{asked['oid']}"}}
        return {"oid": asked["oid"], "size": asked["size"], "actions": upload}


def _sha(content):
    return hashlib.sha256(content).hexdigest()


def _mode(path):
    mode = "lfs" if path.endswith(".safetensors") else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}
