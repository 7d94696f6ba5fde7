"""LangChain's adapters: a whole run of an agent for each call, with a model that makes this call and no other.

The adapters open a new session for every call.
"""

import dialogue
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage

# docs: langchain-mcp-adapters
from langchain_mcp_adapters.client import MultiServerMCPClient


async def main(url, token):
    headers = {"Authorization": f"Bearer {token}"}
    connection = {"transport": "streamable_http", "url": url, "headers": headers}
    client = MultiServerMCPClient({"tools": connection})
    tools = await client.get_tools()
    # docs: end
    await dialogue.hold([tool.name for tool in tools], lambda tool, arguments: call(tools, tool, arguments))


class Scripted(GenericFakeChatModel):
    def bind_tools(self, tools, **kwargs):
        return self


async def call(tools, tool, arguments):
    wanted = AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": "call"}])
    agent = create_agent(Scripted(messages=iter([wanted, AIMessage("done")])), tools)
    state = await agent.ainvoke({"messages": [("user", "go")]})
    (answer,) = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    return answer.text, answer.status == "error"


dialogue.run(main)
