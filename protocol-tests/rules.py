#!/usr/bin/env python3
"""Removes rules of the cluster from the program, one at a time: the tests that guard a rule have to fail.

    protocol-tests/rules.py [WORD ...]    the rules of `rules.toml`, or those whose names contain one of the words

`rules.toml` names for each rule its text, what replaces it, and the tests. They have to pass first, unchanged: a test that fails
anyway would notice everything. The exit code is 1 if the tests of a rule pass without it. It works on a copy of the tree in
`target/mutants`, as `mutants.py` does. Rules of the scripts alone are removed by `simulation::mutants` and `scripts::mutants`, without a build.
"""

import os
import re
import subprocess
import sys
import tomllib

import mutants

RULES = mutants.ROOT / "protocol-tests" / "rules.toml"


def rules(words=()):
    """The rules whose names contain one of the words; all without words."""
    listed = tomllib.loads(RULES.read_text())["rule"]
    return [rule for rule in listed if not words or any(word in rule["name"] for word in words)]


def outdated():
    """The rules whose text is not in its file exactly once.

    >>> outdated()
    []
    """
    return [rule["name"] for rule in rules() if (mutants.ROOT / rule["file"]).read_text().count(rule["text"]) != 1]


def test(rule):
    """Runs the tests of a rule in the copy. Returns whether they passed, and the output."""
    environment = {
        **os.environ,
        **rule.get("environment", {}),
        "CARGO_TARGET_DIR": str(mutants.WORK / "build"),
    }
    command = ["cargo", "test", "--profile", "mutants", *rule["tests"]]
    done = subprocess.run(command, cwd=mutants.TREE, env=environment, check=False, text=True, capture_output=True)
    output = done.stdout + done.stderr
    if "could not compile" in output:
        sys.exit(f"{rule['name']}: does not compile\n{output[-4000:]}")
    if not re.search(r"^running [1-9]", output, re.MULTILINE):
        sys.exit(f"{rule['name']}: {' '.join(command)} runs no test\n{output[-4000:]}")
    return done.returncode == 0, output


def failure(output):
    """The first line that says why a test failed.

    >>> failure("test a ... FAILED\\n\\nthread 'a' (1) panicked at src/a.rs:1:2:\\nseed 7: deaf\\nnote: run with")
    'seed 7: deaf'
    """
    lines = output.splitlines()
    panics = [number for number, line in enumerate(lines) if " panicked at " in line]
    return lines[panics[0] + 1] if panics and panics[0] + 1 < len(lines) else "no panic"


def is_noticed(rule):
    """Whether the tests of a rule fail without it."""
    source = mutants.TREE / rule["file"]
    whole = source.read_text()
    source.write_text(whole.replace(rule["text"], rule["without"]))
    try:
        passed, output = test(rule)
    finally:
        source.write_text(whole)
    end = "UNNOTICED" if passed else f"noticed: {failure(output)}"
    print(f"{rule['name']}: {end}", flush=True)
    return not passed


def main():
    drawn = rules(sys.argv[1:])
    if stale := outdated():
        sys.exit(f"the text of these rules is not in the program once: {stale}")
    mutants.copy_tree()
    for rule in drawn:
        passed, output = test(rule)
        if not passed:
            sys.exit(f"{rule['name']}: its tests fail without a change:\n{output[-4000:]}")
    unnoticed = [rule["name"] for rule in drawn if not is_noticed(rule)]
    print(f"{len(drawn)} rules, {len(drawn) - len(unnoticed)} noticed")
    sys.exit(1 if unnoticed else 0)


if __name__ == "__main__":
    main()
