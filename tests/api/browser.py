"""A browser for tests: headless Chromium, controlled over the DevTools protocol."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

START_SECONDS = 60.0
_QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=1280,1000",
)


class Browser:
    """One tab. `errors` lists its exceptions, console errors and violations of the content security policy."""

    def __init__(self, socket: ClientConnection, port: str) -> None:
        self._socket = socket
        self._port = port
        self._numbers = itertools.count(1)
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    @contextmanager
    def another(self) -> Iterator[Browser]:
        """Open another tab, which hides this one, and close it at the end of the block."""
        with _tab(self._port) as tab:
            yield tab
        self._call("Page.bringToFront")

    def reload(self) -> None:
        """Load the page again."""
        self._call("Page.reload")
        event: dict[str, Any] = {"method": ""}
        while event["method"] != "Page.loadEventFired":
            event = json.loads(self._socket.recv(timeout=120))
            self._note(event)

    def open(self, url: str) -> None:
        """Load a page."""
        self._call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    @contextmanager
    def before_pages(self, script: str) -> Iterator[None]:
        """Run a script in every page that is loaded meanwhile, before the page's own scripts."""
        added = self._call("Page.addScriptToEvaluateOnNewDocument", source=script)
        try:
            yield
        finally:
            self._call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page; promises are awaited."""
        answer = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str, *, seconds: float = 60.0) -> None:
        """Wait until an expression is true in the page."""
        script = f"""new Promise((resolve) => {{
            const end = performance.now() + {seconds * 1000};
            const look = () => {{
                const found = Boolean({condition});
                if (found || performance.now() > end) resolve(found);
                else setTimeout(look, 50);
            }};
            look();
        }})"""
        assert self.run(script), (
            f"{condition} did not become true\n{self.run('document.body.innerText')}\n{self.errors}"
        )

    def click(self, selector: str) -> None:
        """Click the first element of a selector."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key: str, code: int, *, text: str = "") -> None:
        """Press a key by its name (`Tab`) and its virtual key code; `text` is the character that it types."""
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def show_as(self, *, width: int, height: int = 900, scheme: str = "light") -> None:
        """Change the size of the window in pixels, and the colour scheme that the user prefers."""
        mobile = width < 600
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def fill(self, selector: str, value: str) -> None:
        """Set the value of a control, with the events of a user's input."""
        self.run(
            f"(() => {{ const control = document.querySelector({json.dumps(selector)});"
            f" control.value = {json.dumps(value)};"
            " for (const type of ['input', 'change']) control.dispatchEvent(new Event(type, {bubbles: true})); })()"
        )

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=120))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(str(event["params"]["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.errors.append(event["params"]["entry"]["text"])


@contextmanager
def browser() -> Iterator[Browser]:
    """Open a browser; skip the test if none is installed."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed; run: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="ampsweep-browser-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen([program, *_QUIET, f"--user-data-dir={folder}"], stderr=subprocess.DEVNULL)
        try:
            port = _port(Path(folder) / "DevToolsActivePort")
            with _tab(port) as tab:
                yield tab
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def _tab(port: str) -> Iterator[Browser]:
    tab = httpx.put(f"http://127.0.0.1:{port}/json/new?about:blank").json()
    with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
        yield Browser(socket, port)
    httpx.get(f"http://127.0.0.1:{port}/json/close/{tab['id']}")


def _port(file: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while not file.is_file() or not file.read_text():
        assert time.monotonic() < end, "Chromium did not start"
        time.sleep(0.05)
    return file.read_text().split()[0]
