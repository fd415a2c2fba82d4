"""Stand-ins for the W&B service on this machine: one that keeps what it is sent, and three that are broken."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4  # of a form that W&B accepts


class Service(ThreadingHTTPServer):
    """As much of W&B's protocol as one run needs, as seen with wandb 0.31: its history, line by line, and its state."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None: ...  # W&B was killed while it was talking

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.history: list[dict[str, Any]] = []
        self.run: dict[str, Any] = {}  # the variables of the mutations so far
        self.exit_code: int | None = None
        self.preempting = False
        self.files: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def graphql(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": "someone"}}
        if name == "RunResumeStatus":
            return {"model": {**project, "bucket": self._bucket(variables["name"]) if self.run else None}}
        if name == "UpsertBucket":
            inserted = not self.run
            self.run |= {key: value for key, value in variables.items() if value is not None}
            bucket = {"id": "b", "name": variables["name"], "displayName": self.run.get("displayName"), "config": "{}"}
            bucket |= {"project": project, "historyLineCount": len(self.history)}
            return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}
        if name == "CreateRunFiles":
            files = [{"name": f, "uploadUrl": f"{self.url}/upload/{f}"} for f in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}

    def _bucket(self, name: str) -> dict[str, Any]:
        tail = json.dumps([json.dumps(line) for line in self.history[-1:]])
        return {
            "id": "b",
            "name": name,
            "summaryMetrics": json.dumps(self.history[-1] if self.history else {}),
            "displayName": self.run.get("displayName"),
            "logLineCount": 0,
            "historyLineCount": len(self.history),
            "eventsLineCount": 0,
            "historyTail": tail,
            "eventsTail": "[]",
            "config": "{}",
            "tags": [],
            "notes": None,
            "wandbConfig": '{"t": 1}',  # else the run counts as one that never began
        }

    def stream(self, sent: dict[str, Any]) -> None:
        part = sent.get("files", {}).get("wandb-history.jsonl")
        if part:
            self.history[part["offset"] :] = [json.loads(line) for line in part["content"]]
        self.preempting |= bool(sent.get("preempting"))
        if sent.get("complete"):
            self.exit_code = sent["exitcode"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service  # type: ignore[assignment]

    def log_message(self, format: str, *args: Any) -> None: ...

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer: dict[str, Any] = {}
        if self.path.startswith("/graphql"):
            asked = json.loads(body)
            answer = {"data": self.server.graphql(asked.get("operationName"), asked.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            self.server.stream(json.loads(body))
        elif self.path.startswith("/upload/"):
            self.server.files.add(self.path.removeprefix("/upload/"))
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _answer


@contextmanager
def service() -> Iterator[Service]:
    """One that works."""
    with Service() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def broken(how: str) -> Iterator[str]:
    """The address of one that takes connections and then hangs, answers 500, or drops them."""

    def serve(connection: socket.socket) -> None:
        with connection:
            if how == "drops":
                return
            connection.recv(65536)
            if how == "hangs":
                time.sleep(600)
            connection.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed: the test is over
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
