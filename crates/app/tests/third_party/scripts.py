"""What the client asks of each server: several tools, in success and in error, and the exchanges around them.

Each script sees the same world at each run: the test makes the folder anew, at the same path, before it starts one.
"""

import asyncio

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
