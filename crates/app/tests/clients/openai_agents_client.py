"""The OpenAI Agents SDK: a whole run of an agent for each call, with a model that makes this call and no other."""

import json

import dialogue
from agents import Model, ModelResponse, Runner, Usage, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

# docs: openai-agents
from agents import Agent
from agents.mcp import MCPServerStreamableHttp


async def main(url, token):
    params = {"url": url, "headers": {"Authorization": f"Bearer {token}"}}
    async with MCPServerStreamableHttp(params, client_session_timeout_seconds=150) as server:
        agent = Agent(name="assistant", mcp_servers=[server])
        # docs: end
        set_tracing_disabled(True)
        tools = await server.list_tools()

        async def call(tool, arguments):
            model = OneCall(tool, arguments)
            await Runner.run(agent.clone(model=model), "go")
            return model.read, None

        await dialogue.hold([tool.name for tool in tools], call)


class OneCall(Model):
    """Calls a tool, keeps what it then reads of the answer, and has nothing more to say."""

    def __init__(self, tool, arguments):
        self.wanted = ResponseFunctionToolCall(
            type="function_call", call_id="call", name=tool, arguments=json.dumps(arguments)
        )
        self.read = None

    async def get_response(self, system_instructions, input, *args, **kwargs) -> ModelResponse:
        answers = [item for item in input if isinstance(item, dict) and item.get("type") == "function_call_output"]
        if not answers:
            return self.said(self.wanted)
        output = answers[0]["output"]
        self.read = output if isinstance(output, str) else "\n".join(part["text"] for part in output)
        text = ResponseOutputText(type="output_text", text="done", annotations=[])
        return self.said(
            ResponseOutputMessage(id="said", type="message", role="assistant", status="completed", content=[text])
        )

    def said(self, item) -> ModelResponse:
        return ModelResponse(output=[item], usage=Usage(), response_id=None)

    def stream_response(self, *args, **kwargs):
        raise NotImplementedError


dialogue.run(main)
