"""An HTTP server that cuts, lies, refuses and dawdles as it is told."""

from __future__ import annotations

import contextlib
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves `content` by path; the other fields say how badly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.cut_after: int | None = None  # bytes of an answer, after which the connection is closed
        self.cuts_left = 0
        self.ranges = True
        self.etag: str | None = None
        self.flip: dict[str, int] = {}  # byte of a path that is served wrong
        self.errors: list[int] = []  # answered before anything else
        self.stall = 0.0  # seconds before an answer's second half
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append((self.path, wanted))
        if server.errors:
            self.send_error(server.errors.pop(0))
            return
        data = server.content.get(self.path)
        if data is None:
            self.send_error(404)
            return
        if self.path in server.flip:
            changed = bytearray(data)
            changed[server.flip[self.path]] ^= 1
            data = bytes(changed)
        start = 0
        same = self.headers.get("If-Range") in (None, server.etag)
        if wanted and server.ranges and same:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # pyright: ignore
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        body = data[start:]
        self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        if server.cuts_left and server.cut_after is not None:
            server.cuts_left -= 1
            self.wfile.write(body[: server.cut_after])
            self.close_connection = True
            return
        half = len(body) // 2
        self.wfile.write(body[:half])
        if server.stall:
            self.wfile.flush()
            time.sleep(server.stall)
        with contextlib.suppress(OSError):  # the client gave up
            self.wfile.write(body[half:])
