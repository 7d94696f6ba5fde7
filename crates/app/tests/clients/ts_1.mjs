// The official TypeScript SDK, 1.x.

import { hold, run, shown } from "./dialogue.mjs";

// docs: ts-1
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

async function main(url, token) {
  const headers = { Authorization: `Bearer ${token}` };
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
  const client = new Client({ name: "assistant", version: "1.0.0" });
  await client.connect(transport);
  const { tools } = await client.listTools();
  // docs: end
  const call = async (name, args) => shown(await client.callTool({ name, arguments: args }));
  await hold(tools.map((tool) => tool.name), call);
  await transport.terminateSession();
  await client.close();
}

await run(main);
