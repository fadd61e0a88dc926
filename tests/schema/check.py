#!/usr/bin/python3
"""Holds the example policies to the JSON Schema that editors check them with.

Usage: check.py FOLDER. Exit status 77: python3-jsonschema or python3-yaml is not installed.
"""
import glob
import json
import os
import sys

try:
    import jsonschema
    import yaml
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)


class Loader(yaml.SafeLoader):
    """YAML as editors read it: a date is text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

ROLE = {"r": {"allow": [{"access": ["read"]}]}}
REFUSED = {
    "an unknown key": {"version": 1, "rules": {}},
    "another version": {"version": 2},
    "an unknown selector": {"version": 1, "roles": {"r": {"allow": [{"project": "a"}]}}},
    "an empty entry": {"version": 1, "roles": {"r": {"allow": [{}]}}},
    "an empty list": {"version": 1, "roles": {"r": {"allow": [{"operations": []}]}}},
    "an unknown operation": {"version": 1, "roles": {"r": {"allow": [{"operations": ["no"]}]}}},
    "an unknown class": {"version": 1, "roles": {"r": {"allow": [{"access": ["*"]}]}}},
    "a binding without issuer": {
        "version": 1, "roles": ROLE, "bindings": [{"callers": {}, "roles": "r"}]},
    "a test without expectation": {
        "version": 1, "tests": [{"caller": {"issuer": "i"}, "request": "GET /a"}]},
}


def main(folder):
    with open(os.path.join(folder, "policy.schema.json"), encoding="utf-8") as file:
        schema = json.load(file)
    validator = jsonschema.Draft202012Validator(schema)
    wrong = 0
    examples = 0
    for path in sorted(glob.glob(os.path.join(folder, "*.yaml"))):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if "$schema=policy.schema.json" not in text:
            continue
        examples += 1
        for error in validator.iter_errors(yaml.load(text, Loader)):
            print(f"{path}: {error.json_path}: {error.message[:200]}")
            wrong += 1
    for what, document in REFUSED.items():
        if validator.is_valid(document):
            print(f"the schema accepts {what}")
            wrong += 1
    print(f"{examples} examples, {len(REFUSED)} documents to refuse, {wrong} wrong")
    return 1 if wrong or examples < 5 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
