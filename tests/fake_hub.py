"""A Hugging Face Hub in this process: repositories of models with one branch, for uploads and downloads of files."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"


@dataclass(kw_only=True)
class FakeHub:
    """The files of each repository; `commits` has the commit messages of all."""

    url: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    def commit(self, repo: str) -> str:
        """Return the id of a repository's newest commit: a hash of its files."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, content in sorted(self.repos[repo].items()):
            digest.update(name.encode() + content)
        return digest.hexdigest()


class _Server(ThreadingHTTPServer):
    hub: FakeHub


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        """Answer like GET, without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Describe a repository, list its files, or return one of them."""
        hub, parts = self.server.hub, unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            repo = "/".join(parts[2:4])
            if repo not in hub.repos:
                return self._send(404, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"})
            if parts[4:5] == ["tree"]:
                files = hub.repos[repo].items()
                return self._send(
                    200, [{"type": "file", "path": name, "size": len(data), "oid": _oid(data)} for name, data in files]
                )
            siblings = [{"rfilename": name, "size": len(content)} for name, content in hub.repos[repo].items()]
            return self._send(200, {"id": repo, "sha": hub.commit(repo), "siblings": siblings})
        repo, name = "/".join(parts[:2]), "/".join(parts[4:])
        if name not in hub.repos.get(repo, {}):
            return self._send(404, {"error": "not found"}, {"X-Error-Code": "EntryNotFound"})
        content = hub.repos[repo][name]
        return self._send(200, content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": hub.commit(repo)})

    def do_POST(self) -> None:
        """Create a repository, say how files are to be uploaded, or commit them. Needs the token."""
        hub, parts = self.server.hub, unquote(urlsplit(self.path).path).strip("/").split("/")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid username or password."})
        if parts == ["api", "repos", "create"]:
            body_fields = json.loads(body)
            repo = "/".join(filter(None, (body_fields.get("organization"), body_fields["name"])))
            exists = repo in hub.repos
            hub.repos.setdefault(repo, {})
            return self._send(409 if exists else 200, {"url": f"{hub.url}/{repo}"})
        repo = "/".join(parts[2:4])
        if parts[4] == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            return self._send(200, {"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "header":
                hub.commits.append(line["value"]["summary"])
            elif line["key"] == "file":
                hub.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = hub.commit(repo)
        return self._send(200, {"commitUrl": f"{hub.url}/{repo}/commit/{commit}", "commitOid": commit, "success": True})

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Run a Hub on a free port."""
    hub = FakeHub()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.hub = hub
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
