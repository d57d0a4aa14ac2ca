"""Holds JSON values, one a line on stdin, against a JSON Schema: events_check.py SCHEMA. Prints their number, then a line for each that the
schema does not take."""

import json
import sys

import jsonschema

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
lines = [json.loads(line) for line in sys.stdin]
print(f"{len(lines)} lines")
for number, line in enumerate(lines):
    errors = [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(line)]
    if errors:
        print(f"line {number}: {'; '.join(errors)}")
