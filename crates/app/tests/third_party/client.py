"""The official client, 1.x. Usage: client.py PLAN; see driver.py."""

from contextlib import asynccontextmanager

import driver
import mcp.types as types
from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client


class Sdk:
    error = McpError

    def record(self, received: list[str]) -> None:
        types.JSONRPCMessage.model_validate_json = driver.keeping(types.JSONRPCMessage.model_validate_json, received)

    @asynccontextmanager
    async def connected(self, plan: dict):
        async with self.transport(plan) as (read, write, *_):
            async with ClientSession(read, write) as session:
                yield session

    def transport(self, plan: dict):
        if "http" in plan:
            headers = {"Authorization": f"Bearer {plan['http']['token']}"}
            return streamablehttp_client(plan["http"]["url"], headers=headers)
        stdio = plan["stdio"]
        program, *arguments = stdio["command"]
        return stdio_client(StdioServerParameters(command=program, args=arguments, env=stdio["env"], cwd=stdio["cwd"]))

    async def open(self, session) -> None:
        await session.initialize()

    def next_id(self, session) -> int:
        return session._request_id

    async def list_tools(self, session, cursor):
        return await session.list_tools(cursor)

    def next_cursor(self, page):
        return page.nextCursor

    def is_error(self, result) -> bool:
        return getattr(result, "isError", False)

    async def cancel(self, session, request: int) -> None:
        params = types.CancelledNotificationParams(requestId=request, reason="changed my mind")
        await session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))

    async def ping(self, session) -> bool:
        await session.send_ping()
        return True


if __name__ == "__main__":
    driver.main(Sdk())
