"""The side of a client's script that the test talks to: a line of JSON in, a line of JSON out.

The test writes calls, {"tool": NAME, "arguments": {…}}, and then {"end": true}. The script writes what was listed, what each
call showed, and that it ended well. `text` is what a program, or the model behind it, gets to read of an answer; `failed`
says whether the client marks that as an error.
"""

import asyncio
import json
import sys


def say(**members) -> None:
    print(json.dumps(members), flush=True)


async def hold(listed, call) -> None:
    """Says what was listed, and makes each call that comes in through `call`, which returns `text` and `failed`."""
    say(step="listed", tools=sorted(listed))
    while True:
        line = await asyncio.to_thread(sys.stdin.readline)
        asked = json.loads(line)
        if asked.get("end"):
            return
        text, failed = await call(asked["tool"], asked["arguments"])
        say(step="called", text=text, failed=failed)


def run(main) -> None:
    """Runs a script whose `main` takes the gateway's URL and a token, and says that it ended well."""
    url, token = sys.argv[1:]
    asyncio.run(main(url, token))
    say(step="finished")


def text_of(result) -> str:
    return joined(part.text for part in result.content)


def joined(texts) -> str:
    return "\n".join(texts)
