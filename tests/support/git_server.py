"""A private git repository over HTTP on loopback: git's own http-backend behind a server that wants a token."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_QUIET = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
_AUTHOR = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in
           (("NAME", "Test"), ("EMAIL", "test@example.com"))}  # fmt: skip


@dataclass
class GitServer:
    """The repository `url`; only `token` opens it.

    `failing` are statuses that the next requests get instead; with `redirect` all are sent to that repository. `shown`
    are the passwords that came.
    """

    url: str
    token: str
    work: Path
    failing: list[int] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    redirect: str = ""
    shown: list[str] = field(default_factory=list)

    def commit(self, files: Mapping[str, str], branch: str = "main") -> str:
        """Commits and pushes the files; the commit's id."""
        self.git("checkout", "-q", "-B", branch)
        for name, text in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", "change")
        self.git("push", "-q", "origin", branch)
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *words: str) -> str:
        environment = {**os.environ, **_QUIET, **_AUTHOR}
        return subprocess.run(
            ["git", "-C", str(self.work), *words], env=environment, check=True, capture_output=True, text=True
        ).stdout


@contextlib.contextmanager
def git_server(root: Path, token: str) -> Iterator[GitServer]:
    """Serves `root`/served/private.git; a checkout of it is in `root`/work."""
    served, work = root / "served", root / "work"
    served.mkdir(parents=True)
    bare = served / "private.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True, env={**os.environ, **_QUIET})
    subprocess.run(["git", "init", "-q", "-b", "main", str(work)], check=True, env={**os.environ, **_QUIET})
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        found = GitServer(f"http://127.0.0.1:{server.server_port}/private.git", token, work)
        found.git("remote", "add", "origin", str(bare))
        server.served, server.found = served, found  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """CGI as git-http-backend(1) describes it."""

    def do_GET(self) -> None:
        found: GitServer = self.server.found  # type: ignore[attr-defined]
        found.requests.append(f"{self.command} {self.path}")
        if found.failing:
            self._answer(found.failing.pop(0), {}, b"")
        elif found.redirect:
            self._answer(302, {"Location": found.redirect + self.path.partition(".git")[2]}, b"")
        elif not self._may(found.token):
            self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
        else:
            self._serve()

    do_POST = do_GET

    def _may(self, token: str) -> bool:
        kind, _, secret = self.headers.get("Authorization", "").partition(" ")
        with contextlib.suppress(ValueError):
            password = base64.b64decode(secret).decode().partition(":")[2]
            if kind:
                self.server.found.shown.append(password)  # type: ignore[attr-defined]
            return kind == "Basic" and password == token
        return False

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        length = self.headers.get("Content-Length", "0")
        environment = {
            "PATH": os.environ["PATH"], **_QUIET, "GIT_PROJECT_ROOT": str(self.server.served),  # type: ignore[attr-defined]
            "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": length, "REMOTE_USER": "test",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }  # fmt: skip
        body = self.rfile.read(int(length))
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self._answer(int(headers.pop("Status", "200").split()[0]), headers, content)

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Nothing."""
