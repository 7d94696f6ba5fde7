"""Pydantic AI: a whole run of an agent for each call, with a model that makes this call and no other."""

import dialogue
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

# docs: pydantic-ai
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset


async def main(url, token):
    headers = {"Authorization": f"Bearer {token}"}
    async with MCPToolset(url, headers=headers, tool_error_behavior="failed") as toolset:
        agent = Agent(toolsets=[toolset])
        # docs: end
        tools = await toolset.list_tools()

        async def call(tool, arguments):
            read = []

            def model(messages, info):
                parts = [part for part in messages[-1].parts if part.part_kind in ("tool-return", "retry-prompt")]
                if not parts:
                    return ModelResponse([ToolCallPart(tool, arguments)])
                read.extend(parts)
                return ModelResponse([TextPart("done")])

            await agent.run("go", model=FunctionModel(model))
            (part,) = read
            text = part.model_response_str() if part.part_kind == "tool-return" else part.model_response()
            failed = part.part_kind == "retry-prompt" or part.outcome == "failed"
            return text, failed

        await dialogue.hold([tool.name for tool in tools], call)


dialogue.run(main)
