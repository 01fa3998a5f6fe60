"""Headless Chromium, spoken to by its own protocol: what a page shows, and a picture of it."""

import asyncio
import base64
import contextlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0")


def chromium() -> str | None:
    """The program, where this machine has one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One open page."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse", session_id: str = "") -> None:
        self.socket = socket
        self.session_id = session_id
        self.numbers = count(1)
        self.complaints: list[str] = []
        """What the page's script or its policy complained of."""

    async def tell(self, method: str, **parameters: Any) -> Any:
        number = next(self.numbers)
        session = {"sessionId": self.session_id} if self.session_id else {}
        await self.socket.send_json({"id": number, "method": method, "params": parameters, **session})
        async for message in self.socket:
            told = message.json()
            if told.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(str(told["params"]))
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]
        raise AssertionError("the browser is gone")

    async def evaluate(self, expression: str) -> Any:
        """What a script in the page finds."""
        found = await self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, expression: str, seconds: float = 15.0) -> Any:
        """Wait until the expression is true in the page: its value."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not (value := await self.evaluate(expression)):
            shown = await self.evaluate("document.body && document.body.innerText")
            assert asyncio.get_running_loop().time() < deadline, f"{expression}\n{shown}\n{self.complaints}"
            await asyncio.sleep(0.1)
        return value

    async def picture(self, file: Path) -> None:
        shot = await self.tell("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def page_at(url: str, *, width: int = 1500, height: int = 700, dark: bool = False) -> AsyncIterator[Page]:
    """A page of a browser of its own, which is gone afterwards."""
    program = chromium()
    assert program is not None
    folder = tempfile.mkdtemp(prefix="debt-mgmt-browser-")
    browser = await asyncio.create_subprocess_exec(
        program, *FLAGS, f"--user-data-dir={folder}", stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert browser.stderr is not None
    try:
        async with asyncio.timeout(30):
            while not (found := re.search(rb"listening on (ws://\S+)", line := await browser.stderr.readline())):
                assert line, "the browser did not start"
        reading = asyncio.create_task(browser.stderr.read())
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(found[1].decode(), max_msg_size=0) as socket,
        ):
            page = Page(socket)
            target = (await page.tell("Target.createTarget", url="about:blank"))["targetId"]
            attached = await page.tell("Target.attachToTarget", targetId=target, flatten=True)
            page.session_id = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                await page.tell(f"{domain}.enable")
            await page.tell(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            await page.tell("Emulation.setEmulatedMedia", features=[scheme])
            await page.tell("Page.navigate", url=url)
            await page.until("location.href != 'about:blank' && document.readyState == 'complete'")
            yield page
            page.session_id = ""
            with contextlib.suppress(AssertionError, ConnectionError):
                await page.tell("Browser.close")
        await reading
    finally:
        if browser.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                browser.kill()
        await browser.wait()
        shutil.rmtree(folder, ignore_errors=True)
