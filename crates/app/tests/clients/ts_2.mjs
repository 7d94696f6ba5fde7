// The official TypeScript SDK, 2.x.

import { hold, run, shown } from "./dialogue.mjs";

// docs: ts-2
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

async function main(url, token) {
  const headers = { Authorization: `Bearer ${token}` };
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
  const options = { versionNegotiation: { mode: "auto" } };
  const client = new Client({ name: "assistant", version: "1.0.0" }, options);
  await client.connect(transport);
  const { tools } = await client.listTools();
  // docs: end
  const call = async (name, args) => shown(await client.callTool({ name, arguments: args }));
  await hold(tools.map((tool) => tool.name), call);
  await client.close();
}

await run(main);
