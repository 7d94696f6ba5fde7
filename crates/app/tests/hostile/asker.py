"""An MCP server on standard input and output that asks its clients whatever it is told to ask.

Usage: asker.py FOLDER. In FOLDER it appends to `effects` one line a call, "TOOL", and to `answers` what `later` was told.

Tools: ask (asks `times` questions `method` with `params`, and where `wait` is true answers only once all were answered, with
what it was told as JSON), later (answers, then asks), hold (is answered together with the next call), change (an effect).
"""

import json
import os
import sys
import threading
import time

folder = sys.argv[1]
effects = os.open(os.path.join(folder, "effects"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
answers = os.open(os.path.join(folder, "answers"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
asked = 0
# Which call each question belongs to; calls that wait: how many answers are missing, and what was told.
of, waiting, held = {}, {}, []


def say(message):
    os.write(1, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def done(ident, text="done"):
    say({"id": ident, "result": {"content": [{"type": "text", "text": text}]}})


def ask(call, method, params):
    global asked
    asked += 1
    of["q%d" % asked] = call
    say({"id": "q%d" % asked, "method": method, "params": params})


def later(arguments):
    time.sleep(0.3)
    ask(None, arguments["method"], arguments["params"])


def call(ident, name, arguments):
    os.write(effects, ("%s\n" % name).encode())
    os.fsync(effects)
    if name == "hold":
        held.append(ident)
        return
    if name == "ask":
        times = arguments.get("times", 1)
        if arguments.get("wait", True):
            waiting[ident] = [times, []]
        for _ in range(times):
            ask(ident, arguments["method"], arguments["params"])
        if arguments.get("wait", True):
            return
    done(ident)
    while held:
        done(held.pop())
    if name == "later":
        threading.Thread(target=later, args=(arguments,), daemon=True).start()


def told(message):
    call = of.pop(message["id"], None)
    said = {key: message[key] for key in ("result", "error") if key in message}
    if call is None:
        os.write(answers, json.dumps(said).encode() + b"\n")
        os.fsync(answers)
    elif call in waiting:
        waiting[call][0] -= 1
        waiting[call][1].append(said)
        if waiting[call][0] == 0:
            done(call, json.dumps(waiting.pop(call)[1]))


def tool(name):
    return {"name": name, "description": "Does it.", "inputSchema": {"type": "object"}}


def serve():
    for line in sys.stdin:
        message = json.loads(line)
        method, params, ident = message.get("method"), message.get("params") or {}, message.get("id")
        if method is None:
            told(message)
        elif method == "initialize":
            server = {"name": "asker", "version": "1"}
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": server}
            say({"id": ident, "result": result})
        elif method == "tools/list":
            say({"id": ident, "result": {"tools": [tool(name) for name in ("ask", "later", "hold", "change")]}})
        elif method == "tools/call":
            call(ident, params["name"], params.get("arguments") or {})
        elif ident is not None:
            say({"id": ident, "error": {"code": -32601, "message": "not here"}})


serve()
