"""A server on loopback that speaks the chat completions protocol, and answers as a test says."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, dict[str, Any]], Any]
"""From the system message and the data of the user message to the answer: an object, or a string as it is."""


class ChatServer:
    """What was asked, and how the server behaves."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.tokens = 0
        self.delay_s = 0.0
        self.status = 200
        self.redirect: str | None = None
        self.drips = False
        """Sends one byte at a time and never ends."""
        self.url = ""
        self._lock = threading.Lock()

    def reply(self, body: dict[str, Any], headers: dict[str, str]) -> bytes:
        """Counts a request and answers it."""
        system, user = (message["content"] for message in body["messages"])
        content = self.answer(system, json.loads(user))
        text = content if isinstance(content, str) else json.dumps(content)
        usage = {
            "prompt_tokens": len(f"{system} {user}".split()),
            "completion_tokens": len(text.split()),
        }
        with self._lock:
            self.requests.append(body)
            self.headers.append(headers)
            self.tokens += sum(usage.values())
        message = {"role": "assistant", "content": text}
        return json.dumps({"choices": [{"message": message}], "usage": usage}).encode()


@contextlib.contextmanager
def chat_server(answer: Answer) -> Iterator[ChatServer]:
    """Runs a server on a free port."""
    state = ChatServer(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = state.reply(body, dict(self.headers))
            time.sleep(state.delay_s)
            with contextlib.suppress(OSError):  # the client may have gone
                self.send_response(307 if state.redirect else state.status)
                if state.redirect:
                    self.send_header("Location", state.redirect)
                if not state.drips:
                    self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                if not state.drips:
                    self.wfile.write(reply)
                    return
                for _ in range(100):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.05)

        def log_message(self, *arguments: Any) -> None:
            """Does not log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.request_queue_size = 256
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
