"""An Azure DevOps that knows which names and ids are one, for the look-ups of the proxy."""
import json

from kit.upstreams import Upstream, message

ANALYTICS, PAYROLL = "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c", "11111111-2222-4333-8444-555555555555"
DAGS, WAGES = "aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"


def is_lookup(request):
    """Look-ups are told from the requests of callers by who sends them."""
    return "(cid " not in (request["User-Agent"] or "")


class Directory:
    """What this Azure DevOps knows; everything else is answered with 200."""

    def __init__(self):
        self.projects = {"analytics": ANALYTICS, "payroll": PAYROLL}
        self.repositories = {DAGS: ("dags", "analytics"), WAGES: ("wages", "payroll")}
        self.pipelines = {42: ("nightly-load", "\\etl", "analytics"), 99: ("wages", "\\", "payroll")}
        self.builds = {1001: (42, "refs/heads/main"), 2002: (99, "refs/heads/main"), 1002: (42, "refs/heads/wip")}
        self.work_items = {7: "analytics", 8: "payroll"}
        self.teams = {}
        self.asked = []
        self.broken = None

    def project(self, name):
        return {"id": self.projects[name], "name": name}

    def find(self, segments, query):
        if segments[1:3] == ["_apis", "projects"] and len(segments) == 4:
            for name, id in self.projects.items():
                if segments[3].lower() in (name, id):
                    return self.project(name)
            return None
        if segments[1:3] == ["_apis", "projects"] and segments[4:5] == ["teams"]:
            for id, (name, home) in self.teams.items():
                if segments[3].lower() in (home, self.projects[home]) and segments[5].lower() in (id, name):
                    return {"id": id, "name": name, "projectId": self.projects[home], "projectName": home}
            return None
        project = None if segments[1] == "_apis" else segments[1].lower()
        rest = segments[segments.index("_apis") + 1:]
        inside = lambda name: project in (None, name, self.projects.get(name))
        if rest[:2] == ["git", "repositories"] and len(rest) == 3:
            for id, (name, home) in self.repositories.items():
                if rest[2].lower() in (id, name):  # by id even below another project
                    return {"id": id, "name": name, "project": self.project(home)}
            return None
        if rest == ["build", "definitions"] and "definitionIds=" in query:
            number = int(query.split("definitionIds=")[1])
            found = [self.definition(number)] if number in self.pipelines and inside(self.pipelines[number][2]) else []
            return {"count": len(found), "value": found}
        if rest[:2] == ["build", "builds"] and len(rest) == 3 and int(rest[2]) in self.builds:
            definition, ref = self.builds[int(rest[2])]
            whole = self.definition(definition)
            return {"id": int(rest[2]), "buildNumber": "1", "sourceBranch": ref, "definition": whole, "project": whole["project"]} \
                if inside(self.pipelines[definition][2]) else None
        if rest[:2] == ["wit", "workitems"] and len(rest) == 3 and int(rest[2]) in self.work_items:
            return {"id": int(rest[2]), "fields": {"System.TeamProject": self.work_items[int(rest[2])]}}  # below whatever project
        return None

    def definition(self, number):
        name, path, home = self.pipelines[number]
        return {"id": number, "name": name, "path": path, "project": self.project(home)}

    def __call__(self, sock, request):
        if not is_lookup(request):
            return Upstream.standard(sock, request)
        path, _, query = request.target.partition("?")
        self.asked.append(path)
        if self.broken:
            return self.broken
        found = self.find(path.strip("/").split("/"), query)
        return message(200, json.dumps(found)) if found else message(404, '{"message":"TF200016"}')


def served(upstream):
    """What callers reached."""
    return [r.target for r in upstream.received if not is_lookup(r)]
