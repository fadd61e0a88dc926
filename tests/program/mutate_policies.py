#!/usr/bin/python3
"""Whether the tests in the example policies would notice a mistake in their rules.

Usage: mutate_policies.py PROGRAM FOLDER [--verbose]. Each rule of each policy in FOLDER is taken
out, and is widened in every way there is: a selector dropped, a value replaced by `*`, a condition
taken off, a window of time made longer, a group or an included role changed, a binding's condition
on its callers or its glass dropped; of a list in a `deny`, and of windows, each value is dropped as
well. Each such policy must fail one of its own tests (`PROGRAM policy test`). What survives is printed; exit
status 1. A change that no test could notice is named in EQUIVALENT, with the reason.
Exit status 77: python3-yaml is not installed.
"""
import concurrent.futures
import copy
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

try:
    import yaml
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

ONLY_ONE = "the catalogue has no other operation of that name"
NO_REF = "the others of pipelines.runs touch no ref, and the rule asks for one"
READ_ANYWAY = "the others of pipelines.runs only read, which the next rule of the role allows"
ASKS_NOBODY = "tests ask nobody which pipeline a build is of, so they deny what changes builds"
ONLY_RUNS = "of what this caller is allowed, only runs have template parameters"
GUARDED = "what it adds is of the classes manage and delete, which guard-rails denies"
NEVER = "what it adds is of the classes manage and delete, which the role never denies"
ONLY_CONTOSO = "nothing is allowed in another organization"
# file: {mutant: why no test can notice}
EQUIVALENT = {
    "airflow-roles.yaml": {
        "Op.allow[0]: operations: build.stages.update is build.stages.*": ONLY_ONE,
    },
    "break-glass.yaml": {
        "night-shift.allow[0]: operations: pipelines.runs.run is pipelines.runs.*":
            "the others of pipelines.runs only read, which on-call-reader allows before",
        "emergency-operator.allow[0]: access dropped": NEVER,
        "emergency-operator.allow[0]: access: read is any": NEVER,
        "emergency-operator.allow[0]: access: write is any": NEVER,
        "emergency-operator.allow[0]: access: execute is any": NEVER,
        "never.deny[1]: organizations dropped": ONLY_CONTOSO,
        "never.deny[1]: organizations: contoso is *": ONLY_CONTOSO,
    },
    "example.policy.yaml": {
        "etl-operator.allow[0]: operations: pipelines.runs.run is pipelines.runs.*": READ_ANYWAY,
        "etl-operator.allow[0]: operations: pipelines.runs.get is pipelines.runs.*": READ_ANYWAY,
        "etl-operator.allow[0]: operations: build.builds.queue is build.builds.*": ASKS_NOBODY,
    },
    "run-parameters.yaml": {
        "staging-loader.allow[0]: operations: pipelines.runs.run is pipelines.runs.*": NO_REF,
        "staging-loader.allow[1]: where.parameters dropped": "it admits every parameter",
        "staging-loader.allow[1]: where.parameters may be anything": "it does already",
        "staging-loader.deny[0]: where.templateParameters.*: without production":
            "prod* is about it as well",
        "staging-loader.deny[0]: operations dropped": ONLY_RUNS,
        "staging-loader.deny[0]: operations: pipelines.runs.run is *": ONLY_RUNS,
        "staging-loader.deny[0]: operations: pipelines.runs.run is pipelines.runs.*": ONLY_RUNS,
    },
    "teams.yaml": {
        f"{team}.allow[0]: {what}": GUARDED
        for team in ("red", "blue")
        for what in ("access dropped", "access: read is any", "access: write is any",
                     "access: execute is any")
    },
    "trigger-only.yaml": {
        "trigger-nightly.allow[0]: operations: pipelines.runs.run is pipelines.runs.*": NO_REF,
        "trigger-nightly.allow[1]: operations: build.timeline.get is build.timeline.*": ONLY_ONE,
    },
}

KINDS = {"organizations", "projects", "teams", "pipelines", "builds", "releases", "repositories",
         "feeds", "environments", "workItems", "workItemTypes", "refs"}
ACCESS = ["read", "write", "execute", "manage", "delete"]


class Loader(yaml.SafeLoader):
    """A date is text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def as_list(value):
    return list(value) if isinstance(value, list) else [value]


def name_roles(text, policy):
    """Tests that name a rule by its line name its role instead: the mutants have other lines."""
    role_of, role = {}, None
    for number, line in enumerate(text.splitlines(), 1):
        name = re.match(r"  ([^ #:]+):", line)
        if name and name[1] in policy.get("roles", {}):
            role = name[1]
        role_of[number] = role
    for test in policy.get("tests", []):
        place = re.fullmatch(r"[^:]+\.yaml:(\d+)", test.get("rule", ""))
        if place:
            test["rule"] = role_of[int(place[1])]


def wider_values(selector, value):
    """What a value may be written as that holds for more."""
    if selector == "access":
        return [ACCESS]
    if selector == "path":
        return [["/**"]]
    if selector == "method":
        return [["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]]
    if selector == "operations" and "." in str(value) and not str(value).endswith("*"):
        return [["*"], [str(value).rsplit(".", 1)[0] + ".*"]]
    if selector == "repositories" and "/" in str(value):
        project, name = str(value).split("/", 1)
        return [["*"]] + [[v] for v in (f"{project}/*", f"*/{name}") if v != value]
    return [["*"]]


DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
WINDOW = re.compile(r"(?:(\w{3})(?:-(\w{3}))? )?(\d\d:\d\d)-(\d\d:\d\d)(.*)")


def clock_beside(clock, minutes):
    """`06:00`, a few minutes later."""
    at = (int(clock[:2]) * 60 + int(clock[3:]) + minutes) % (24 * 60)
    return f"{at // 60:02}:{at % 60:02}"


def wider_windows(window):
    """A minute more at either end, a day more at either end, all days, whole days."""
    first, last, begin, end, offset = WINDOW.fullmatch(window).groups()
    last = last or first
    days = f"{first}-{last} " if first else ""
    if begin != "00:00":
        yield f"{days}{clock_beside(begin, -1)}-{end}{offset}"
    yield f"{days}{begin}-{clock_beside(end, 1)}{offset}"
    if days:
        before, after = DAYS[DAYS.index(first) - 1], DAYS[(DAYS.index(last) + 1) % 7]
        if before != last:
            yield f"{before}-{last} {begin}-{end}{offset}"
            yield f"{first}-{after} {begin}-{end}{offset}"
        yield f"{begin}-{end}{offset}"
        yield f"{days}00:00-24:00{offset}"


def mutate_windows(holder, key, selector):
    windows = as_list(holder[key])
    for i, window in enumerate(windows):
        for wider in wider_windows(window):
            holder[key] = windows[:i] + [wider] + windows[i + 1:]
            yield f"{selector}: {window} is {wider}"
    holder[key] = windows
    yield from drop_values(holder, key, selector)


def drop_values(holder, key, selector):
    """Each value of a list of several, left out."""
    values = as_list(holder[key])
    for i, value in enumerate(values):
        if len(values) > 1:
            holder[key] = values[:i] + values[i + 1:]
            yield f"{selector}: without {value}"
    holder[key] = values


def mutate_values(holder, key, selector):
    """Each value of one list, replaced by each wider one."""
    values = as_list(holder[key])
    for i, value in enumerate(values):
        for wider in wider_values(selector, value):
            if wider == [value]:
                continue
            holder[key] = values[:i] + wider + values[i + 1:]
            yield f"{selector}: {value} is {'any' if selector == 'access' else wider[0]}"
    holder[key] = values


def mutate_conditions(holder, key, shown, is_deny):
    """A mapping of conditions, `where` or `claimed`: each dropped, each widened."""
    conditions = holder[key]
    for name in list(conditions):
        wanted = conditions.pop(name)
        if conditions:
            yield f"{shown}.{name} dropped"
        conditions[name] = wanted
        if isinstance(wanted, dict):
            yield from mutate_conditions(conditions, name, f"{shown}.{name}", is_deny)
            conditions[name] = {"*": ["*"]}
            yield f"{shown}.{name} may be anything"
        elif wanted == []:
            for anything in (["*"], {"*": ["*"]}):
                conditions[name] = anything
                yield f"{shown}.{name}: none is anything"
        elif (shown, name) == ("where", "time"):
            yield from mutate_windows(conditions, name, f"{shown}.{name}")
        else:
            yield from mutate_values(conditions, name, f"{shown}.{name}")
            if is_deny:
                yield from drop_values(conditions, name, f"{shown}.{name}")
        conditions[name] = wanted


def mutate_entry(entry, place, is_deny):
    for key in list(entry):
        wanted = entry.pop(key)
        yield f"{place}: {key} dropped"
        entry[key] = wanted
        if key in ("where", "claimed"):
            for what in mutate_conditions(entry, key, key, is_deny):
                yield f"{place}: {what}"
        else:
            for what in mutate_values(entry, key, key):
                yield f"{place}: {what}"
            for what in drop_values(entry, key, key) if is_deny else ():
                yield f"{place}: {what}"
        entry[key] = wanted


def mutate_entries(role, name):
    for effect in ("allow", "deny"):
        entries = role.get(effect, [])
        for i, entry in enumerate(entries):
            place = f"{name}.{effect}[{i}]"
            if len(entries) > 1:
                del entries[i]
                yield f"{place} removed"
                entries.insert(i, entry)
            else:
                del role[effect]
                if role:
                    yield f"{place} removed"
                role[effect] = entries
            yield from mutate_entry(entry, place, effect == "deny")
            entries[i] = entry


def mutate_binding(binding, place):
    callers = binding.get("callers", {})
    for key in [key for key in ("subject", "roles", "claims") if key in callers]:
        wanted = callers.pop(key)
        yield f"{place}: callers.{key} dropped"
        callers[key] = wanted
    for key in [key for key in ("not_before", "expires", "break_glass") if key in binding]:
        wanted = binding.pop(key)
        if key == "expires":
            binding[key] = "9999-12-31"  # glass needs an end
        yield f"{place}: {key} dropped"
        binding[key] = wanted
    for i, role in enumerate(as_list(binding["roles"])):
        roles = as_list(binding["roles"])
        if len(roles) > 1:
            binding["roles"] = roles[:i] + roles[i + 1:]
            yield f"{place}: role {role} not given"
            binding["roles"] = roles


def mutants(policy):
    """Changes the policy in place, yields what was changed, and changes it back."""
    for name, role in policy.get("roles", {}).items():
        yield from mutate_entries(role, name)
        included = as_list(role.get("includes", []))
        for i, other in enumerate(included):
            rest = included[:i] + included[i + 1:]
            role["includes"] = rest
            if not rest:
                del role["includes"]
            yield f"{name}: {other} not included"
            role["includes"] = included
    for name in policy.get("groups", {}):
        for what in mutate_values(policy["groups"], name, f"group {name}"):
            yield what
    for i, binding in enumerate(policy.get("bindings", [])):
        yield from mutate_binding(binding, f"binding {binding.get('name', i)}")


def judge(program, folder, number, policy):
    """The exit status of its own tests, and what was said."""
    path = os.path.join(folder, f"{number}.yaml")
    with open(path, "w", encoding="utf-8") as out:
        out.write(policy)
    done = subprocess.run([program, "policy", "test", "--policy", path], capture_output=True,
                          text=True, check=False)
    os.unlink(path)
    return done.returncode, done.stdout + done.stderr


def run(program, path, work, pool, verbose):
    """Prints what survives; how many were made, how many did not load, and how many survived."""
    name = os.path.basename(path)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    policy = yaml.load(text, Loader)
    name_roles(text, policy)
    status, said = judge(program, work, name, json.dumps(policy))
    if status:
        print(f"{name}: its own tests fail as JSON (status {status}):\n{said}")
        return 0, 0, 1
    before = copy.deepcopy(policy)
    known = EQUIVALENT.get(name, {})
    waiting = {}
    for number, what in enumerate(mutants(policy)):
        waiting[pool.submit(judge, program, work, f"{name}-{number}", json.dumps(policy))] = what
    assert policy == before or json.dumps(policy, sort_keys=True) == json.dumps(
        normal(before, policy), sort_keys=True)
    unloaded, survived, named = 0, 0, set()
    for future, what in waiting.items():
        status, said = future.result()
        if status not in (0, 1):
            unloaded += 1
            if verbose:
                print(f"{name}: {what}: does not load: {said.splitlines()[0]}")
        elif status == 0 and what in known:
            named.add(what)
        elif status == 0:
            survived += 1
            print(f"{name}: no test notices: {what}")
    for what in set(known) - named:
        survived += 1
        print(f"{name}: listed as meaning the same, and is noticed or not made: {what}")
    return len(waiting), unloaded, survived


def normal(before, after):
    """Lists of one may have been written as lists: the order of keys, too, is nobody's concern."""
    if isinstance(after, dict):
        return {key: normal(before[key], after[key]) for key in after}
    if isinstance(after, list):
        before = as_list(before)
        return [normal(a, b) for a, b in zip(before, after)]
    return before


def main():
    arguments = [word for word in sys.argv[1:] if word != "--verbose"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    program, folder = arguments
    made = unloaded = survived = 0
    with tempfile.TemporaryDirectory() as work, \
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path in sorted(glob.glob(os.path.join(folder, "*.yaml"))):
            with open(path, encoding="utf-8") as file:
                if not re.search(r"^bindings:", file.read(), re.M):
                    continue  # a configuration
            counts = run(program, path, work, pool, "--verbose" in sys.argv)
            made, unloaded, survived = (a + b for a, b in zip((made, unloaded, survived), counts))
    print(f"{made} mutants, {unloaded} that do not load, {survived} that no test notices")
    sys.exit(1 if survived else 0)


main()
