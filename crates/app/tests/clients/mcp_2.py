"""The official Python SDK, 2.x."""

import dialogue

# docs: mcp-2
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main(url, token):
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=300) as http:
        async with Client(streamable_http_client(url, http_client=http)) as client:
            tools = (await client.list_tools()).tools
            # docs: end

            async def call(tool, arguments):
                result = await client.call_tool(tool, arguments)
                return dialogue.text_of(result), result.is_error

            await dialogue.hold([tool.name for tool in tools], call)


dialogue.run(main)
