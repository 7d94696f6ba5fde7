// The same as dialogue.py, for clients in JavaScript.

export function say(members) {
  process.stdout.write(JSON.stringify(members) + "\n");
}

export async function hold(listed, call) {
  say({ step: "listed", tools: [...listed].sort() });
  for await (const line of lines(process.stdin.setEncoding("utf8"))) {
    const asked = JSON.parse(line);
    if (asked.end) return;
    say({ step: "called", ...(await call(asked.tool, asked.arguments)) });
  }
}

// `node:readline` also breaks lines at U+2028, which may stand in JSON.
async function* lines(input) {
  let rest = "";
  for await (const chunk of input) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

export async function run(main) {
  const [url, token] = process.argv.slice(2);
  await main(url, token);
  say({ step: "finished" });
}

export function shown(result) {
  return { text: result.content.map((part) => part.text).join("\n"), failed: result.isError ?? false };
}
