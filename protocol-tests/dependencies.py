#!/usr/bin/env python3
"""Holds every dependency to deny.toml: its licence, its source, and that there is one version of it.

It takes what Cargo knows by itself, so it needs no internet. Known vulnerabilities are the business of `cargo deny check
advisories`, which reads the same deny.toml.

`python3 -m doctest protocol-tests/dependencies.py` tests it.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOKEN = re.compile(r"\(|\)|/|[^\s()/]+")


def is_allowed(expression, allowed):
    """Whether what is allowed satisfies an expression of SPDX, or the older form with a slash.

    >>> allowed = {"MIT", "Apache-2.0", "Unicode-3.0"}
    >>> is_allowed("MIT", allowed), is_allowed("GPL-3.0", allowed)
    (True, False)
    >>> is_allowed("GPL-3.0 OR MIT", allowed), is_allowed("GPL-3.0/MIT", allowed)
    (True, True)
    >>> is_allowed("GPL-3.0 AND MIT", allowed), is_allowed("(MIT OR GPL-3.0) AND Unicode-3.0", allowed)
    (False, True)
    >>> is_allowed("MIT OR GPL-3.0 AND LGPL-2.1", allowed), is_allowed("(MIT OR GPL-3.0) AND LGPL-2.1", allowed)
    (True, False)
    >>> is_allowed("Apache-2.0 WITH LLVM-exception", allowed)
    False
    >>> is_allowed("Apache-2.0 WITH LLVM-exception", {"Apache-2.0 WITH LLVM-exception"})
    True
    >>> is_allowed("MIT OR", allowed)
    Traceback (most recent call last):
    ValueError: a licence is missing in 'MIT OR'
    """
    tokens = TOKEN.findall(expression)

    def term():
        if not tokens or tokens[0] in (")", "OR", "AND", "WITH", "/"):
            raise ValueError(f"a licence is missing in {expression!r}")
        token = tokens.pop(0)
        if token == "(":
            value = alternatives()
            if not tokens or tokens.pop(0) != ")":
                raise ValueError(f"a parenthesis is open in {expression!r}")
            return value
        if tokens[:1] == ["WITH"]:
            tokens.pop(0)
            token = f"{token} WITH {tokens.pop(0)}"
        return token in allowed

    def all_of():
        value = term()
        while tokens[:1] == ["AND"]:
            tokens.pop(0)
            value = term() and value
        return value

    def alternatives():
        value = all_of()
        while tokens[:1] in (["OR"], ["/"]):
            tokens.pop(0)
            value = all_of() or value
        return value

    value = alternatives()
    if tokens:
        raise ValueError(f"{tokens[0]!r} is not understood in {expression!r}")
    return value


def faults(packages, rules):
    """What is wrong with the packages, a line each.

    >>> rules = {"licenses": {"allow": ["MIT"]}, "bans": {"multiple-versions": "deny", "skip": [{"crate": "old@1.0.0"}]},
    ...          "sources": {"allow-registry": ["ours"]}}
    >>> def package(name, version="1.0.0", licence="MIT", source="registry+ours"):
    ...     return {"name": name, "version": version, "license": licence, "source": source}
    >>> faults([package("a"), package("b")], rules)
    []
    >>> faults([package("a", licence="GPL-3.0"), package("b", licence=None)], rules)
    ['a 1.0.0: its licence, GPL-3.0, is not allowed', 'b 1.0.0: has no licence']
    >>> faults([package("a", source="git+elsewhere"), package("b", source="registry+theirs")], rules)
    ['a 1.0.0: comes from git+elsewhere', 'b 1.0.0: comes from registry+theirs']
    >>> faults([package("a"), package("a", "2.0.0"), package("old"), package("old", "2.0.0")], rules)
    ['a: is there twice: 1.0.0, 2.0.0']
    """
    allowed = set(rules["licenses"]["allow"])
    registries = {f"registry+{registry}" for registry in rules["sources"]["allow-registry"]}
    skipped = {skip["crate"] for skip in rules["bans"]["skip"]}
    found, versions = [], defaultdict(set)
    for package in sorted(packages, key=lambda package: (package["name"], package["version"])):
        name = f"{package['name']} {package['version']}"
        licence = package["license"]
        if not licence:
            found.append(f"{name}: has no licence")
        elif not is_allowed(licence, allowed):
            found.append(f"{name}: its licence, {licence}, is not allowed")
        if package["source"] not in registries:
            found.append(f"{name}: comes from {package['source']}")
        if f"{package['name']}@{package['version']}" not in skipped:
            versions[package["name"]].add(package["version"])
    if rules["bans"]["multiple-versions"] == "deny":
        for name, several in sorted(versions.items()):
            if len(several) > 1:
                found.append(f"{name}: is there twice: {', '.join(sorted(several))}")
    return found


def dependencies(targets):
    """All packages that are built for any of the targets, ours aside."""
    used = set()
    for target in targets:
        # Cargo's metadata lists what could be switched on as well; its tree knows what is.
        tree = cargo("tree", "--all-features", "--target", target, "--prefix", "none", "--format", "{p}")
        used |= {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    metadata = json.loads(cargo("metadata", "--all-features", "--format-version", "1"))
    others = [package for package in metadata["packages"] if package["id"] not in metadata["workspace_members"]]
    return [package for package in others if (package["name"], f"v{package['version']}") in used]


def cargo(*arguments):
    done = subprocess.run(["cargo", *arguments, "--locked"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))
    packages = dependencies(rules["graph"]["targets"])
    found = faults(packages, rules)
    for fault in found:
        print(fault)
    print(f"{len(packages)} dependencies, {len(found)} faults")
    return 1 if found or not packages else 0


if __name__ == "__main__":
    sys.exit(main())
