"""Reads docs/openapi.yaml."""

import re
from functools import cache

import jsonschema
import yaml

from servers import OPENAPI

METHODS = ("get", "head", "post", "options")


@cache
def load():
    return yaml.safe_load(OPENAPI.read_text(encoding="utf-8"))


def resolved(value):
    """`value`, or what its `$ref` leads to."""
    while "$ref" in value:
        found = load()
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def operations():
    """Path, method and operation of each operation."""
    for path, item in load()["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def operation(method, path):
    """The operation of a request."""
    for template, of, found in operations():
        pattern = re.sub(r"\{\w+\}", "[^/]+", re.escape(template).replace(r"\{", "{").replace(r"\}", "}"))
        if of == method.lower() and re.fullmatch(pattern, path):
            return found
    raise LookupError(f"{method} {path}")


def check(schema, value):
    """Raises unless `value` conforms to `schema`."""
    jsonschema.Draft202012Validator(schema | {"components": load()["components"]}).validate(value)


def check_answer(of, answer):
    """Raises unless the operation `of` documents the status, the headers and the body of `answer`."""
    response = resolved(of["responses"][str(answer.status)])
    for name, header in response["headers"].items():
        header, value = resolved(header), answer.headers[name]
        if value is not None:
            check(header["schema"], int(value) if header["schema"]["type"] == "integer" else value)
        elif header.get("required"):
            raise AssertionError(f"{answer.status} without {name}")
    for kind, content in response.get("content", {}).items():
        assert answer.headers["Content-Type"].split(";")[0] == kind, answer.headers["Content-Type"]
        if kind == "application/json":
            check(content["schema"], answer.json)
