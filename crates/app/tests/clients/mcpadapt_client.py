"""mcpadapt, with its adapter for LangChain; it hands on the text of an answer and nothing else."""

import dialogue

# docs: mcpadapt
from mcpadapt.core import MCPAdapt
from mcpadapt.langchain_adapter import LangChainAdapter


async def main(url, token):
    headers = {"Authorization": f"Bearer {token}"}
    server = {"transport": "streamable-http", "url": url, "headers": headers}
    async with MCPAdapt(server, LangChainAdapter()) as tools:
        # docs: end
        by_name = {tool.name: tool for tool in tools}

        async def call(tool, arguments):
            return await by_name[tool].ainvoke(arguments), None

        await dialogue.hold(by_name, call)


dialogue.run(main)
