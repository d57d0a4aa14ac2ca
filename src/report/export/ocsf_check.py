"""Holds events of OCSF, one a line on stdin, against the published schema: ocsf_check.py VERSION. Prints their number, then a line for each
event that the schema does not take."""

import json
import sys

import jsonschema
from ocsf_json_schema import OcsfJsonSchema, OcsfJsonSchemaEmbedded, get_ocsf_schema

schema = OcsfJsonSchema(get_ocsf_schema(sys.argv[1]))
embedded = OcsfJsonSchemaEmbedded(schema)
validators = {}


def validator(event):
    uid, profiles = event["class_uid"], tuple(event["metadata"].get("profiles", []))
    if (uid, profiles) not in validators:
        found = embedded.get_class_schema(schema.lookup_class_name_from_uid(uid), list(profiles))
        jsonschema.Draft202012Validator.check_schema(found)
        validators[uid, profiles] = jsonschema.Draft202012Validator(found)
    return validators[uid, profiles]


events = [json.loads(line) for line in sys.stdin]
print(f"{len(events)} events")
for number, event in enumerate(events):
    errors = [f"{error.json_path}: {error.message[:200]}" for error in validator(event).iter_errors(event)]
    if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
        errors.append("type_uid is another activity's")
    if errors:
        print(f"event {number}, class {event['class_uid']}: {'; '.join(errors)}")
