"""The official client, 2.x. Usage: client_2.py PLAN; see driver.py."""

import warnings
from contextlib import asynccontextmanager

import driver
import httpx2
import mcp.types as types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

# Pings and cancellations are deprecated words of the older revisions, which this still speaks.
warnings.simplefilter("ignore")


class Sdk:
    error = MCPError

    def record(self, received: list[str]) -> None:
        parser = types.jsonrpc_message_adapter
        parser.validate_json = driver.keeping(parser.validate_json, received)

    @asynccontextmanager
    async def connected(self, plan: dict):
        self.newer = plan["newer"]
        async with self.transport(plan) as transport:
            # Nothing that is asked twice may be answered from memory.
            mode = "auto" if self.newer else "legacy"
            async with Client(transport, mode=mode, cache=None) as client:
                assert (client.protocol_version > "2026") == self.newer, client.protocol_version
                yield client

    @asynccontextmanager
    async def transport(self, plan: dict):
        if "http" in plan:
            headers = {"Authorization": f"Bearer {plan['http']['token']}"}
            async with httpx2.AsyncClient(headers=headers, timeout=300) as http:
                yield streamable_http_client(plan["http"]["url"], http_client=http)
            return
        stdio = plan["stdio"]
        program, *arguments = stdio["command"]
        yield stdio_client(StdioServerParameters(command=program, args=arguments, env=stdio["env"], cwd=stdio["cwd"]))

    async def open(self, client) -> None:
        """The client opened as it was made."""

    def next_id(self, client) -> int:
        return client.session._dispatcher._next_id + 1

    async def list_tools(self, client, cursor):
        return await client.list_tools(cursor=cursor)

    def next_cursor(self, page):
        return page.next_cursor

    def is_error(self, result) -> bool:
        return getattr(result, "is_error", False)

    async def cancel(self, client, request: int) -> None:
        # Over HTTP the newest revision cancels by closing a stream.
        if not self.newer:
            params = types.CancelledNotificationParams(request_id=request, reason="changed my mind")
            await client.session.send_notification(types.CancelledNotification(params=params))

    async def ping(self, client) -> bool:
        # The newest revision has no ping.
        if not self.newer:
            await client.send_ping()
        return not self.newer


if __name__ == "__main__":
    driver.main(Sdk())
