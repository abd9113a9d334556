"""What schemathesis has to know about the server: its app, how to sign, and the code of an error."""

import schemathesis

from servers import APP, METRICS_TOKEN
from signing import Signature

schemathesis.auth.set_from_requests(Signature(APP, METRICS_TOKEN))


@schemathesis.hook
def before_load_schema(_context, schema):
    """Requests name the app of the server, and others only where wrong data is sent on purpose."""
    schema["components"]["parameters"]["AppId"]["schema"] = {"type": "string", "enum": [APP["id"]]}
    # A cursor comes from an answer. One that is drawn names events that were lost, which is an error.
    history = schema["paths"]["/apps/{app_id}/channels/{channel}/history"]["get"]
    history["parameters"] = [one for one in history["parameters"] if one.get("name") != "cursor"]


@schemathesis.check
def error_has_the_code_of_its_status(_context, response, _case):
    if response.status_code < 400 or not response.content:
        return
    body = response.json()
    if "ready" in body:
        return
    # 5031 is a 503 of which it is unknown whether the event was published.
    codes = {response.status_code} | ({5031} if response.status_code == 503 else set())
    assert body["code"] in codes, body
