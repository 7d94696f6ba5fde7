"""What the client asks of each server: several tools, in success and in error, and the exchanges around them.

Each script sees the same world at each run: the test makes the folder anew, at the same path, before it starts one.
"""

import asyncio

from mcp.types import PromptReference, ResourceTemplateReference

# Characters that a careless copy would change: quotes, escapes, separators of other languages, two planes.
HARD_TEXT = 'quote " backslash \\ slash / tab \t line \n nul \x00 del \x7f é ﬀ \u2028 \u2029 \ufeff 😀 </script>'


async def everything(driver) -> None:
    await driver.open()
    call = driver.call
    await call("echo", {"message": "hello"})
    await call("echo", {"message": HARD_TEXT})
    await call("echo", {"message": "long " * 50_000})
    await call("echo", {})
    await call("echo", {"message": 7})
    await call("get-sum", {"a": 2, "b": 3})
    await call("get-sum", {"a": 0.1, "b": 0.2})
    await call("get-sum", {"a": 9007199254740993, "b": 1e300})
    await call("get-sum", {"a": "2", "b": 3})
    await call("get-structured-content", {"location": "Chicago"})
    await call("get-structured-content", {"location": "Atlantis"})
    await call("get-tiny-image", {})
    await call("get-tiny-image")
    for kind in ("error", "success", "debug"):
        await call("get-annotated-message", {"messageType": kind, "includeImage": kind == "debug"})
    await call("get-resource-links", {"count": 5})
    await call("get-resource-links", {"count": 50})
    await call("get-resource-reference", {"resourceType": "Text", "resourceId": 3})
    await call("get-resource-reference", {"resourceType": "Text", "resourceId": -1})
    await call("get-env", {})
    data = "data:text/plain;base64,aGVsbG8gaGVsbG8gaGVsbG8="
    await call("gzip-file-as-resource", {"name": "hello.gz", "data": data, "outputType": "resource"})
    await call("gzip-file-as-resource", {"name": "hello.gz", "data": data, "outputType": "resourceLink"})
    await call("gzip-file-as-resource", {"name": "x.gz", "data": "ftp://example.invalid/x"})
    # It asks for a task, which this client does not speak.
    await call("simulate-research-query", {"topic": "birds"})
    await call("echo", {"message": "with meta"}, meta={"example.org/trace": {"id": 1e2, "é": [None]}})
    await driver.ping()
    await driver.call_with_progress("trigger-long-running-operation", {"duration": 1, "steps": 5})
    # The same tool without anybody who listens, and a tool that makes no progress with somebody who does.
    await call("trigger-long-running-operation", {"duration": 0.2, "steps": 2})
    await driver.call_with_progress("echo", {"message": "no progress"})
    await driver.call_and_cancel("trigger-long-running-operation", {"duration": 3, "steps": 1})
    # Cancelling what has ended changes nothing.
    await driver.cancel(5)
    await driver.ping()
    await asyncio.gather(*(call("echo", {"message": f"at once {number}"}) for number in range(8)))
    for kind in driver.beside:
        await {
            "resources": everything_of_resources,
            "prompts": everything_of_prompts,
            "completion": everything_of_completion,
            "logging": everything_of_logging,
        }[kind](driver)


async def everything_of_resources(driver) -> None:
    session, read = driver.session, driver.read
    await driver.ask(session.list_resources)
    await driver.ask(session.list_resource_templates)
    await driver.ask(lambda: session.list_resources("no such cursor"))
    await read("demo://resource/static/document/features.md")
    # Its text holds the time of day.
    await read("demo://resource/dynamic/text/7")
    await read("demo://resource/dynamic/blob/-1")
    await read("demo://resource/static/document/missing.md")
    # The tool made it above.
    await read("demo://resource/session/hello.gz")
    await driver.subscribe("demo://resource/dynamic/text/7")
    await driver.ask(lambda: session.unsubscribe_resource("demo://resource/dynamic/text/7"))


async def everything_of_prompts(driver) -> None:
    await driver.ask(driver.session.list_prompts)
    await driver.prompt("simple-prompt")
    await driver.prompt("args-prompt", {"city": HARD_TEXT})
    await driver.prompt("args-prompt", {"city": "Bern", "state": "Bern"})
    await driver.prompt("args-prompt", {})
    await driver.prompt("resource-prompt", {"resourceType": "Text", "resourceId": "0.5"})
    await driver.prompt("no-such-prompt")


async def everything_of_completion(driver) -> None:
    team = PromptReference(type="ref/prompt", name="completable-prompt")
    await driver.complete(team, "department", "S")
    await driver.complete(team, "name", "", {"department": "Sales"})
    template = ResourceTemplateReference(type="ref/resource", uri="demo://resource/dynamic/text/{resourceId}")
    await driver.complete(template, "resourceId", "12")
    await driver.complete(template, "resourceId", "twelve")
    await driver.complete(PromptReference(type="ref/prompt", name="no-such-prompt"), "x", "")


async def everything_of_logging(driver) -> None:
    await driver.ask(lambda: driver.session.set_logging_level("error"))
    await driver.call("echo", {"message": "after the level was set"})


async def filesystem(driver) -> None:
    await driver.open()
    call, root = driver.call, driver.folder
    await call("list_allowed_directories", {})
    await call("write_file", {"path": f"{root}/a.txt", "content": "one\ntwo\nthree\n"})
    await call("write_file", {"path": f"{root}/hard é.txt", "content": HARD_TEXT})
    await call("write_file", {"path": f"{root}/../outside.txt", "content": "no"})
    await call("read_text_file", {"path": f"{root}/a.txt"})
    await call("read_text_file", {"path": f"{root}/hard é.txt"})
    await call("read_text_file", {"path": f"{root}/a.txt", "head": 1})
    await call("read_text_file", {"path": f"{root}/a.txt", "head": 1, "tail": 1})
    await call("read_text_file", {"path": f"{root}/missing.txt"})
    await call("read_text_file", {})
    await call("read_file", {"path": f"{root}/seed/data.json"})
    await call("read_media_file", {"path": f"{root}/seed/dot.png"})
    await call("read_multiple_files", {"paths": [f"{root}/a.txt", f"{root}/missing.txt"]})
    edit = {"oldText": "two", "newText": "zwei \u2028 \"2\""}
    await call("edit_file", {"path": f"{root}/a.txt", "edits": [edit], "dryRun": True})
    await driver.call_with_progress("edit_file", {"path": f"{root}/a.txt", "edits": [edit]})
    await call("edit_file", {"path": f"{root}/a.txt", "edits": [edit]})
    await call("create_directory", {"path": f"{root}/new/deep"})
    await call("move_file", {"source": f"{root}/a.txt", "destination": f"{root}/new/b.txt"})
    await call("move_file", {"source": f"{root}/a.txt", "destination": f"{root}/new/c.txt"})
    await call("list_directory", {"path": root})
    await call("list_directory_with_sizes", {"path": f"{root}/seed", "sortBy": "size"})
    await call("directory_tree", {"path": root})
    await call("directory_tree", {"path": root, "excludePatterns": ["seed"]})
    await call("search_files", {"path": root, "pattern": "**/*.txt"})
    await call("get_file_info", {"path": f"{root}/new/b.txt"})
    await call("get_file_info", {"path": "/etc/passwd"})
    await driver.cancel(5)
    await driver.ping()


async def git(driver) -> None:
    await driver.open()
    call, repo = driver.call, driver.folder
    await call("git_status", {"repo_path": repo})
    await call("git_log", {"repo_path": repo, "max_count": 2})
    await call("git_diff_unstaged", {"repo_path": repo})
    await call("git_diff", {"repo_path": repo, "target": "HEAD", "context_lines": 1})
    await call("git_diff", {"repo_path": repo, "target": "no-such-thing"})
    await call("git_add", {"repo_path": repo, "files": ["changed.txt"]})
    await call("git_diff_staged", {"repo_path": repo})
    await driver.call_with_progress("git_commit", {"repo_path": repo, "message": "Change it: é \"2\"\n\nA body.\n"})
    await call("git_log", {"repo_path": repo, "start_timestamp": "2001-01-01", "max_count": 5})
    await call("git_show", {"repo_path": repo, "revision": "HEAD"})
    await call("git_show", {"repo_path": repo, "revision": "--output=/tmp/no"})
    await call("git_create_branch", {"repo_path": repo, "branch_name": "side"})
    await call("git_checkout", {"repo_path": repo, "branch_name": "side"})
    await call("git_branch", {"repo_path": repo, "branch_type": "local"})
    await call("git_branch", {"repo_path": repo, "branch_type": "sideways"})
    await call("git_add", {"repo_path": repo, "files": ["missing.txt"]})
    await call("git_add", {"repo_path": repo, "files": ["new.txt"]})
    await call("git_reset", {"repo_path": repo})
    await call("git_status", {"repo_path": repo})
    await call("git_status", {"repo_path": "/"})
    await call("git_status", {})
    await driver.cancel(4)
    await driver.ping()


async def memory(driver) -> None:
    await driver.open()
    call = driver.call
    await call("read_graph", {})
    people = [
        {"name": "Ada", "entityType": "person", "observations": ["wrote notes", HARD_TEXT]},
        {"name": "Engine é", "entityType": "machine", "observations": []},
    ]
    await call("create_entities", {"entities": people})
    await call("create_entities", {"entities": people})
    await call("create_entities", {"entities": [{"name": "half"}]})
    worked = {"from": "Ada", "to": "Engine é", "relationType": "wrote for"}
    await call("create_relations", {"relations": [worked]})
    await call("add_observations", {"observations": [{"entityName": "Ada", "contents": ["counted", "wrote notes"]}]})
    await call("add_observations", {"observations": [{"entityName": "nobody", "contents": ["x"]}]})
    await call("search_nodes", {"query": "NOTES"})
    await call("open_nodes", {"names": ["Ada", "nobody"]})
    await call("delete_observations", {"deletions": [{"entityName": "Ada", "observations": ["counted"]}]})
    await call("delete_relations", {"relations": [worked]})
    if "resources" in driver.beside:
        graph = "memory://knowledge-graph"
        await driver.ask(driver.session.list_resources)
        await driver.read(graph)
        await driver.subscribe(graph)
        await call("create_relations", {"relations": [worked]})
        await driver.ask(lambda: driver.session.unsubscribe_resource(graph))
        await driver.read("memory://nothing")
    await driver.call_with_progress("delete_entities", {"entityNames": ["Engine é", "nobody"]})
    await call("read_graph", {})
    await driver.cancel(5)
    await driver.ping()


async def sequential_thinking(driver) -> None:
    await driver.open()

    async def think(thought, number, total, **more) -> None:
        needed = {"thought": thought, "thoughtNumber": number, "totalThoughts": total, "nextThoughtNeeded": True}
        await driver.call("sequentialthinking", needed | more)

    await think("first", 1, 3)
    await think(HARD_TEXT, 2, 3, isRevision=True, revisesThought=1)
    await think("a branch", "3", "3", branchFromThought=2, branchId="side é")
    await think("more than was meant", 9, 3, nextThoughtNeeded="false")
    await think("no number", 0, 3)
    await think("no number", 1.5, 3)
    await think("not a truth", 1, 3, nextThoughtNeeded="perhaps")
    await think("unknown members", 1, 1, née=[1e2, None])
    await driver.call("sequentialthinking", {})
    await driver.call_with_progress("sequentialthinking", {"thought": "x", "thoughtNumber": 5, "totalThoughts": 5,
                                                           "nextThoughtNeeded": False})
    await driver.cancel(5)
    await driver.ping()


async def time(driver) -> None:
    await driver.open()
    call = driver.call
    await call("get_current_time", {"timezone": "Europe/Zurich"})
    await call("get_current_time", {"timezone": "Mars/Olympus"})
    await call("get_current_time", {})
    at_noon = {"source_timezone": "Asia/Tokyo", "time": "12:00"}
    await call("convert_time", at_noon | {"target_timezone": "Asia/Kathmandu"})
    await driver.call_with_progress("convert_time", at_noon | {"target_timezone": "Etc/UTC"})
    await call("convert_time", at_noon | {"target_timezone": "Nowhere/At_All"})
    await call("convert_time", at_noon | {"target_timezone": "Etc/UTC", "time": "25:61"})
    await call("convert_time", {"time": 12})
    await driver.cancel(4)
    await driver.ping()


async def sqlite(driver) -> None:
    await driver.open()
    call = driver.call
    await call("list_tables", {})
    await call("create_table", {"query": "CREATE TABLE crew (id INTEGER PRIMARY KEY, name TEXT, pay REAL)"})
    await call("create_table", {"query": "DROP TABLE crew"})
    quoted = HARD_TEXT.replace("\x00", "").replace("'", "''")
    await call("write_query", {"query": f"INSERT INTO crew (name, pay) VALUES ('{quoted}', 1e300), ('Ada', 0.1)"})
    await call("write_query", {"query": "SELECT 1"})
    await call("write_query", {"query": "INSERT INTO nowhere VALUES (1)"})
    await call("read_query", {"query": "SELECT id, name, pay, NULL AS nothing, x'00ff' AS bytes FROM crew ORDER BY id"})
    await call("read_query", {"query": "DELETE FROM crew"})
    await call("read_query", {"query": "SELECT"})
    await call("read_query", {})
    await call("describe_table", {"table_name": "crew"})
    await driver.call_with_progress("write_query", {"query": "UPDATE crew SET pay = pay * 2"})
    if "resources" in driver.beside:
        await driver.ask(driver.session.list_resources)
        await driver.read("memo://insights")
        # It says that the memo was updated to whoever is there.
        await call("append_insight", {"insight": HARD_TEXT})
        await driver.read("memo://insights")
        await driver.read("memo://nothing")
    if "prompts" in driver.beside:
        await driver.ask(driver.session.list_prompts)
        await driver.prompt("mcp-demo", {"topic": "ships"})
        await driver.prompt("mcp-demo", {})
        await driver.prompt("no-such-prompt", {})
    await call("append_insight", {"insight": "pay doubled"})
    await call("list_tables", {})
    await driver.cancel(4)
    await driver.ping()


async def postgres(driver) -> None:
    await driver.open()

    async def query(sql) -> None:
        await driver.call("query", {"sql": sql})

    await query("SELECT id, name, pay, since, notes FROM crew ORDER BY id")
    await query("SELECT 12345678901234567890 AS big, 0.1::float8 AS float, 1e2::numeric AS decimal, 'NaN'::float8 AS none")
    await query("SELECT '\\x00ff'::bytea AS bytes, NULL AS nothing, ARRAY[1, NULL] AS list, true AS yes")
    await query("SELECT '" + HARD_TEXT.replace("\x00", "").replace("'", "''") + "' AS text")
    await query("SELECT pg_sleep(0.2) IS NULL AS slept")
    await query("INSERT INTO crew (name) VALUES ('nobody')")
    # The server's read-only transaction does not hold this.
    await query("COMMIT; DROP TABLE IF EXISTS made_after_all; CREATE TABLE made_after_all (id int)")
    await query("SELECT * FROM nowhere")
    await query("SELEKT 1")
    await query("SELECT 1 / 0")
    await query("SELECT 1; SELECT 2")
    await query("")
    await driver.call("query", {})
    await driver.call_with_progress("query", {"sql": "SELECT count(*) FROM crew"})
    if "resources" in driver.beside:
        crew = str((await driver.session.list_resources()).resources[0].uri)
        await driver.read(crew)
        await driver.read(crew.replace("/crew/", "/nowhere/"))
        await driver.read(crew.replace("/schema", "/other"))
    await driver.cancel(4)
    await driver.ping()


# One call, spelled by one process and spelled again by another: floats, exponents, a member that no schema knows.
SUM = {"a": 0.1, "b": 1e22, "née": ["\u2028", {"z": 1, "a": -0.0}]}
CITY = {"location": "Chicago"}


async def ask(driver) -> None:
    """What a policy denies, what a human must consent to, and what is unknown."""
    await driver.open()
    await driver.call("get-env", {})
    await driver.call("get-sum", SUM)
    await driver.call("get-structured-content", CITY)
    await driver.call("no-such-tool", {})


async def ask_again(driver) -> None:
    """The identical calls: once with consent, and once more without. Then the budget ends."""
    await driver.open()
    for _ in range(2):
        await driver.call("get-sum", SUM)
        await driver.call("get-structured-content", CITY)
    await driver.call("echo", {"message": "the third call that runs"})
    await driver.call("echo", {"message": "one too many"})
    await driver.call("get-tiny-image", {})
