"""The official client, with every message that it receives kept as the text that came over the wire.

Usage: client.py PLAN, where PLAN is a JSON file:
  {"script": NAME, "out": FILE, "folder": FOLDER, "beside": [KIND…], and either
   "stdio": {"command": [PROGRAM, ARGUMENT…], "env": {…}, "cwd": FOLDER} or "http": {"url": URL, "token": TOKEN}}

KIND is what a script asks for besides tools: `resources`, `prompts`, `completion`, `logging`.
It knows no gateway: the same script runs against a server itself and against what stands before it. The client
declares no capability, so a server has nothing to ask it for.
"""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

import mcp.types as types
from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client
from pydantic import ValidationError

LIMIT_S = 150


def record_raw_messages() -> list[str]:
    """Both transports parse a message through this one method: keep its input before anything is read into it."""
    received: list[str] = []
    parse = types.JSONRPCMessage.model_validate_json

    def keep(text, *args, **kwargs):
        received.append(text.decode("utf-8") if isinstance(text, bytes) else text)
        return parse(text, *args, **kwargs)

    types.JSONRPCMessage.model_validate_json = keep
    return received


class Driver:
    """One session, and notes of what was asked and what the SDK made of the answers."""

    def __init__(self, session: ClientSession, plan: dict):
        self.session = session
        self.folder = plan["folder"]
        self.beside = plan["beside"]
        self.calls: list[dict] = []
        self.progress: list[dict] = []
        self.listed: list[str] = []
        self.pings = 0

    def next_id(self) -> int:
        return self.session._request_id

    async def open(self) -> None:
        await self.session.initialize()
        cursor = None
        while True:
            page = await self.session.list_tools(cursor)
            self.listed.extend(tool.name for tool in page.tools)
            cursor = page.nextCursor
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
            noted["status"] = "failed" if getattr(result, "isError", False) else "done"
        except McpError as error:
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
        except McpError:
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
        except McpError as error:
            noted["error"] = error.error.model_dump(mode="json", exclude_none=True)
        except asyncio.TimeoutError:
            noted["unanswered"] = True

    async def cancel(self, request: int) -> None:
        params = types.CancelledNotificationParams(requestId=request, reason="changed my mind")
        await self.session.send_notification(
            types.ClientNotification(types.CancelledNotification(params=params))
        )

    async def ping(self) -> None:
        await self.session.send_ping()
        self.pings += 1


@asynccontextmanager
async def connected(plan: dict):
    if "http" in plan:
        headers = {"Authorization": f"Bearer {plan['http']['token']}"}
        async with streamablehttp_client(plan["http"]["url"], headers=headers) as (read, write, _):
            yield read, write
    else:
        stdio = plan["stdio"]
        program, *arguments = stdio["command"]
        server = StdioServerParameters(command=program, args=arguments, env=stdio["env"], cwd=stdio["cwd"])
        async with stdio_client(server) as (read, write):
            yield read, write


async def run(plan: dict, script) -> None:
    received = record_raw_messages()
    async with connected(plan) as (read, write):
        async with ClientSession(read, write) as session:
            driver = Driver(session, plan)
            await script(driver)
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


if __name__ == "__main__":
    import scripts

    with open(sys.argv[1], encoding="utf-8") as file:
        the_plan = json.load(file)
    asyncio.run(asyncio.wait_for(run(the_plan, getattr(scripts, the_plan["script"])), timeout=LIMIT_S))
