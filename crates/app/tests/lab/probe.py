"""Opens one stdio session with the server given as a command line, lists its tools and says what it saw."""

import asyncio
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def probe(command: str, *args: str) -> None:
    parameters = StdioServerParameters(command=command, args=list(args))
    async with stdio_client(parameters, errlog=open("/dev/null", "w")) as (read, write):
        async with ClientSession(read, write) as session:
            server = await session.initialize()
            listed = await session.list_tools()
            print(f"protocol {server.protocolVersion}, {len(listed.tools)} tools")


asyncio.run(asyncio.wait_for(probe(*sys.argv[1:]), timeout=120))
