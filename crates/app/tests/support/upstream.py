"""An MCP server on standard input and output whose every effect can be counted afterwards.

Usage: upstream.py FOLDER. In FOLDER it keeps
  effects     one line an effect, "TOOL ID", synced before the call is answered (`hold` is never answered)
  reads       one line a read of standard input, "WALL_NS BYTES", if there is a file `reads` at the start
  bytes       everything that was read, if there is a file `reads` at the start
  pids        one line a process, its process id
While there is a file `deaf` it reads nothing. Where there is a file `tools.json`, its array is what it lists; it says that its
tools changed as soon as it is called after a change of that file. Where there is a file `pages`, a page holds one tool.

Tools: put (an effect), look (an effect, declared a read), change (an effect), hold (an effect that never answers).
A call with the argument `text` is answered with it.
"""

import json
import os
import sys
import time

folder = sys.argv[1]


def appended(name):
    return os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


effects = appended("effects")
os.write(appended("pids"), b"%d\n" % os.getpid())
watched = os.path.exists(os.path.join(folder, "reads"))
reads = appended("reads") if watched else None
everything = appended("bytes") if watched else None

SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}, "text": {"type": "string"}}}
TOOLS = [{"name": name, "description": name, "inputSchema": SCHEMA} for name in ("put", "look", "change", "hold")]


listed = TOOLS


def call(params):
    name, arguments = params.get("name"), params.get("arguments") or {}
    os.write(effects, ("%s %s\n" % (name, arguments.get("id", ""))).encode())
    os.fsync(effects)
    if name == "hold":
        return None
    return {"content": [{"type": "text", "text": arguments.get("text", "done")}], "isError": False}


def tools():
    try:
        with open(os.path.join(folder, "tools.json")) as other:
            return json.load(other)
    except FileNotFoundError:
        return TOOLS


def page(first):
    global listed
    listed = tools()
    if not os.path.exists(os.path.join(folder, "pages")):
        return {"tools": listed}
    more = {"nextCursor": str(first + 1)} if first + 1 < len(listed) else {}
    return {"tools": listed[first : first + 1], **more}


def answer(message):
    method, params = message.get("method"), message.get("params") or {}
    if method == "initialize":
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "lab", "version": "1"},
        }
    if method == "tools/list":
        return page(int(params.get("cursor", 0)))
    if method == "tools/call":
        return call(params)
    return {}


def serve():
    rest = b""
    while True:
        while os.path.exists(os.path.join(folder, "deaf")):
            time.sleep(0.01)
        chunk = os.read(0, 1 << 20)
        now = time.time_ns()
        if not chunk:
            return
        if watched:
            os.write(reads, b"%d %d\n" % (now, len(chunk)))
            os.write(everything, chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            message = json.loads(line)
            result = answer(message) if "id" in message else None
            if message.get("method") == "tools/call" and tools() != listed:
                changed = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
                os.write(1, json.dumps(changed).encode() + b"\n")
            if result is not None:
                reply = {"jsonrpc": "2.0", "id": message["id"], "result": result}
                os.write(1, json.dumps(reply).encode() + b"\n")


serve()
