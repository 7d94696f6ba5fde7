"""The official Python SDK, 1.x."""

import dialogue

# docs: mcp-1
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


async def main(url, token):
    headers = {"Authorization": f"Bearer {token}"}
    async with streamablehttp_client(url, headers=headers) as (read, write, _):
        async with ClientSession(read, write) as session:
            await session.initialize()
            tools = (await session.list_tools()).tools
            # docs: end

            async def call(tool, arguments):
                result = await session.call_tool(tool, arguments)
                return dialogue.text_of(result), result.isError

            await dialogue.hold([tool.name for tool in tools], call)


dialogue.run(main)
