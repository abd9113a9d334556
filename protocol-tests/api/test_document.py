"""docs/openapi.yaml beside docs/http-api.md, the settings and the source.

The routes are compared with the source by a test of `src/http/route.rs`.
"""

import json
import re
import unittest

from openapi_spec_validator import OpenAPIV31SpecValidator

import document
from servers import REPOSITORY

SCHEMAS = "components/schemas"
PAGE = (REPOSITORY / "docs/http-api.md").read_text(encoding="utf-8")


def at(path):
    found = document.load()
    for part in path.split("/"):
        found = found[int(part)] if isinstance(found, list) else found[part]
    return found


def source(name):
    return (REPOSITORY / "src/http" / name).read_text(encoding="utf-8")


class Document(unittest.TestCase):
    def test_it_is_openapi_3_1(self):
        OpenAPIV31SpecValidator(document.load()).validate()

    def test_it_has_the_version_of_the_program(self):
        manifest = (REPOSITORY / "Cargo.toml").read_text(encoding="utf-8")
        self.assertEqual(at("info/version"), re.search(r'^version = "(.*)"', manifest, re.M).group(1))

    def test_every_example_conforms_to_its_schema(self):
        examples = 0
        for _, _, operation in document.operations():
            parts = [operation.get("requestBody", {}), *operation["responses"].values()]
            for content in (document.resolved(part).get("content", {}) for part in parts):
                for example in content.get("application/json", {}).get("examples", {}).values():
                    document.check(content["application/json"]["schema"], example["value"])
                    examples += 1
        self.assertGreater(examples, 50)

    def test_the_examples_of_the_page_conform_to_the_schemas(self):
        calls = re.findall(r"^api (GET|POST) (\S+)(?: '([^']*)')?.*\n```\n\n```json\n(.*)\n", PAGE, re.M)
        self.assertGreater(len(calls), 10)
        for method, path, body, answer in calls:
            operation = document.operation(method, path)
            with self.subTest(path=path, answer=answer):
                if body:
                    document.check(operation["requestBody"]["content"]["application/json"]["schema"], json.loads(body))
                answer = json.loads(answer)
                response = document.resolved(operation["responses"][str(answer.get("code", 200))])
                document.check(response["content"]["application/json"]["schema"], answer)

    def test_the_page_has_the_same_statuses(self):
        listed = set(re.findall(r"^\| (\d{3}) \|", PAGE, re.M))
        documented = {status for _, _, operation in document.operations() for status in operation["responses"]}
        # Other methods than those of a path are no operations.
        self.assertIn("MethodNotAllowed", at("components/responses"))
        self.assertEqual(listed - {"405"}, {status for status in documented if status >= "400"})

    def test_limits_are_the_defaults_of_the_settings(self):
        schema = json.loads((REPOSITORY / "docs/settings.schema.json").read_text(encoding="utf-8"))
        app = schema["properties"]["apps"]["items"]["properties"]
        event = f"{SCHEMAS}/EventMembers/properties"
        for path, setting in [
            (f"{SCHEMAS}/ChannelName/maxLength", "max_channel_name_length"),
            (f"{SCHEMAS}/PresenceChannelName/maxLength", "max_channel_name_length"),
            (f"{event}/name/maxLength", "max_event_name_length"),
            (f"{event}/data/maxLength", "max_event_bytes"),
            (f"{SCHEMAS}/Event/anyOf/0/properties/channels/maxItems", "max_event_channels"),
            (f"{SCHEMAS}/Batch/properties/batch/maxItems", "max_batch_events"),
        ]:
            self.assertEqual(at(path), app[setting]["default"], path)
        user_id = at("components/parameters/UserId/schema/maxLength")
        self.assertEqual(user_id + len("#server-to-user-"), app["max_channel_name_length"]["default"])

    def test_query_parameters_and_members_are_those_that_the_source_reads(self):
        text = "".join(source(name) for name in ["api.rs", "activity.rs", "history.rs"])
        read = set(re.findall(r'parameters\s*\.parameter\("(\w+)"\)', text))
        lists = [operation.get("parameters", []) for path, _, operation in document.operations() if path.startswith("/apps/")]
        documented = [document.resolved(each) for parameters in lists for each in parameters]
        self.assertEqual({each["name"] for each in documented if each["in"] == "query"}, read)

        body = re.search(r"struct EventBody<'a> \{(.*?)\n\}", source("event_body.rs"), re.S).group(1)
        members = set(at(f"{SCHEMAS}/EventMembers/properties")) | set(at(f"{SCHEMAS}/OneChannel/properties"))
        self.assertEqual(members, set(re.findall(r"^    (\w+): ", body, re.M)))

        schemes = {each["name"] for each in at("components/securitySchemes").values() if each["type"] == "apiKey"}
        names = re.search(r"AUTHENTICATING: \[&str; \d\] =\s*\[(.*?)\]", source("auth.rs"), re.S).group(1)
        self.assertEqual(schemes, set(re.findall(r'"(\w+)"', names)))


if __name__ == "__main__":
    unittest.main()
