"""What the checkers share: cases in, one answer a case out. True: it holds. False: refused. None: not this tool's work."""
import base64
import json
import sys


def b64(text):
    return base64.b64decode(text, validate=True)


def answer(kinds):
    """Runs each case of the file that is named on the command line through the function for its kind."""
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = json.load(file)
    answers = []
    for case in cases:
        check = kinds.get(case["kind"])
        if check is None:
            answers.append(None)
            continue
        try:
            answers.append(bool(check(case)))
        except Exception as error:  # a refusal, in whatever words the tool has for it
            print(f"{case['name']}: {type(error).__name__}: {error}", file=sys.stderr)
            answers.append(False)
    json.dump(answers, sys.stdout)
