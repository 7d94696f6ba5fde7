"""The official client over stdio: runs the steps of a plan and prints one JSON value for each.

Usage: stdio_client.py PLAN, with PLAN = {"server": {"command": PROGRAM, "args": […]}, "steps": [[WORD, …], …]}.
"""

import asyncio
import json
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

LIMIT_S = 120


async def call(session, tool, number):
    result = await session.call_tool(tool, {"id": str(number)})
    verdict = (result.meta or {}).get("countersign/verdict")
    return {"text": result.content[0].text, "error": result.isError, "verdict": verdict}


async def step(session, word, *rest):
    if word == "list":
        return sorted(tool.name for tool in (await session.list_tools()).tools)
    if word == "call":
        return await call(session, *rest)
    if word == "many":
        tool, count = rest
        done = await asyncio.gather(*(call(session, tool, number) for number in range(count)))
        return [one["text"] for one in done]
    if word == "ping":
        await session.send_ping()
        return "pong"
    raise ValueError(word)


async def run(plan):
    server = StdioServerParameters(command=plan["server"]["command"], args=plan["server"]["args"])
    async with stdio_client(server) as (read, write):
        async with ClientSession(read, write) as session:
            await session.initialize()
            for words in plan["steps"]:
                print(json.dumps(await step(session, *words)))


asyncio.run(asyncio.wait_for(run(json.loads(sys.argv[1])), timeout=LIMIT_S))
