"""What a script drives: a session of either major of the official SDK, with every message that it receives kept.

The plan of a run is a JSON file:
  {"script": NAME, "out": FILE, "folder": FOLDER, "beside": [KIND…], "newer": BOOL, and either
   "stdio": {"command": [PROGRAM, ARGUMENT…], "env": {…}, "cwd": FOLDER} or "http": {"url": URL, "token": TOKEN}}

KIND is what a script asks for besides tools: `resources`, `prompts`, `completion`, `logging`. `newer` opens with the newest
revision, which 2.x alone knows. It knows no gateway: the same script runs against a server itself and against what stands
before it. The client declares no capability, so a server has nothing to ask it for.
"""

import asyncio
import json
import sys

import scripts
from pydantic import ValidationError

LIMIT_S = 150


def keeping(parse, received: list[str]):
    """Both transports parse a message through one function: keep its input before anything is read into it."""

    def keep(text, *args, **kwargs):
        received.append(text.decode("utf-8") if isinstance(text, bytes) else text)
        return parse(text, *args, **kwargs)

    return keep


class Driver:
    """One session, and notes of what was asked and what the SDK made of the answers. `sdk` knows the major's own words."""

    def __init__(self, session, sdk, plan: dict):
        self.session = session
        self.sdk = sdk
        self.folder = plan["folder"]
        self.beside = plan["beside"]
        self.calls: list[dict] = []
        self.progress: list[dict] = []
        self.listed: list[str] = []
        self.pings = 0

    def next_id(self) -> int:
        return self.sdk.next_id(self.session)

    async def open(self) -> None:
        await self.sdk.open(self.session)
        cursor = None
        while True:
            page = await self.sdk.list_tools(self.session, cursor)
            self.listed.extend(tool.name for tool in page.tools)
            cursor = self.sdk.next_cursor(page)
            if cursor is None:
                return

    async def call(self, tool: str, arguments: dict | None = None, **more) -> dict:
        """Calls a tool; notes what the SDK shows of the answer, or the error that it raises."""
        return await self.act(tool, arguments or {}, lambda: self.session.call_tool(tool, arguments, **more))

    async def act(self, tool: str, arguments: dict, send) -> dict:
        """An action: a call, or a method that reads something. `arguments` are its parameters as they are sent."""
        noted = {"id": self.next_id(), "tool": tool, "arguments": arguments}
        self.calls.append(noted)
        try:
            result = await send()
            noted["result"] = result.model_dump(mode="json", by_alias=True, exclude_none=True)
            noted["status"] = "failed" if self.sdk.is_error(result) else "done"
        except self.sdk.error as error:
            noted["error"] = error.error.model_dump(mode="json", exclude_none=True)
            noted["status"] = "failed"
        except (RuntimeError, ValidationError) as error:
            # The SDK throws an answer away that does not fit the tool's schema, or the protocol's.
            noted["thrown_away"] = str(error)
            noted["status"] = "done"
        return noted

    async def read(self, uri: str) -> dict:
        return await self.act("resources/read", {"uri": uri}, lambda: self.session.read_resource(uri))

    async def subscribe(self, uri: str) -> dict:
        return await self.act("resources/subscribe", {"uri": uri}, lambda: self.session.subscribe_resource(uri))

    async def prompt(self, name: str, arguments: dict | None = None) -> dict:
        params = {"name": name} if arguments is None else {"name": name, "arguments": arguments}
        return await self.act("prompts/get", params, lambda: self.session.get_prompt(name, arguments))

    async def complete(self, ref, name: str, value: str, context: dict | None = None) -> dict:
        argument = {"name": name, "value": value}
        params = {"ref": ref.model_dump(mode="json", exclude_none=True), "argument": argument}
        if context is not None:
            params["context"] = {"arguments": context}
        return await self.act("completion/complete", params, lambda: self.session.complete(ref, argument, context))

    async def ask(self, send) -> None:
        """An exchange that is no action; whatever comes back is in what was received."""
        try:
            await send()
        except self.sdk.error:
            pass

    async def call_with_progress(self, tool: str, arguments: dict) -> dict:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            self.progress.append({"progress": progress, "total": total, "message": message})

        return await self.call(tool, arguments, progress_callback=on_progress)

    async def call_and_cancel(self, tool: str, arguments: dict) -> None:
        """Calls a slow tool and cancels it. Whether anything is still answered is the peer's affair."""
        asked = self.next_id()
        noted = {"id": asked, "tool": tool, "arguments": arguments, "status": "cancelled"}
        self.calls.append(noted)
        waiting = asyncio.create_task(self.session.call_tool(tool, arguments))
        await asyncio.sleep(0.5)
        await self.cancel(asked)
        try:
            await asyncio.wait_for(waiting, timeout=1.5)
        except self.sdk.error as error:
            noted["error"] = error.error.model_dump(mode="json", exclude_none=True)
        except asyncio.TimeoutError:
            noted["unanswered"] = True

    async def cancel(self, request: int) -> None:
        await self.sdk.cancel(self.session, request)

    async def ping(self) -> None:
        if await self.sdk.ping(self.session):
            self.pings += 1


async def run(plan: dict, sdk) -> None:
    received: list[str] = []
    sdk.record(received)
    async with sdk.connected(plan) as session:
        driver = Driver(session, sdk, plan)
        await getattr(scripts, plan["script"])(driver)
    with open(plan["out"], "w", encoding="utf-8") as out:
        json.dump(
            {
                "received": received,
                "calls": driver.calls,
                "progress": driver.progress,
                "listed": driver.listed,
                "pings": driver.pings,
            },
            out,
        )


def main(sdk) -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    asyncio.run(asyncio.wait_for(run(plan, sdk), timeout=LIMIT_S))
