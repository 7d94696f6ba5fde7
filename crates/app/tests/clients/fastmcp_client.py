"""fastmcp's client."""

import dialogue

# docs: fastmcp
from fastmcp import Client


async def main(url, token):
    async with Client(url, auth=token) as client:
        tools = await client.list_tools()
        # docs: end

        async def call(tool, arguments):
            result = await client.call_tool(tool, arguments, raise_on_error=False)
            return dialogue.text_of(result), result.is_error

        await dialogue.hold([tool.name for tool in tools], call)


dialogue.run(main)
