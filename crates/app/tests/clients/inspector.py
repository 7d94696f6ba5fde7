"""The MCP Inspector's command line, one process for each request; a person reads what it prints."""

import asyncio
import json
import os
import subprocess

import dialogue

SCRIPT = os.path.join(os.path.dirname(__file__), "inspector.sh")


async def main(url, token):
    async def inspect(what, **more):
        environment = os.environ | {"URL": url, "TOKEN": token} | more
        command = ["sh", SCRIPT, what]
        return await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True)

    listed = await inspect("list")
    assert listed.returncode == 0, listed

    async def call(tool, arguments):
        called = await inspect("call", TOOL=tool, ARGUMENTS=json.dumps(arguments))
        shown = json.loads(called.stdout)
        return dialogue.joined(part["text"] for part in shown["content"]), shown.get("isError", False)

    await dialogue.hold([tool["name"] for tool in json.loads(listed.stdout)["tools"]], call)


dialogue.run(main)
