"""The policy that most tests run under. A caller's rights come from the `roles` claim of its token."""

POLICY = {
    "version": 1,
    "roles": {
        "operator": {
            "description": "Start pipeline 42, look at everything of analytics, read its repositories.",
            "allow": [
                {"operations": ["pipelines.runs.*", "build.builds.queue"], "projects": ["analytics"], "pipelines": [42]},
                {"access": ["read"], "areas": ["build", "pipelines", "git"], "projects": ["analytics"]},
                {"operations": ["core.projects.list", "core.projects.get", "discovery"]},
                {"operations": ["git.fetch", "git.lfs.fetch"], "repositories": ["analytics/dags"]},
                {"method": "HEAD", "path": "/contoso/analytics/_apis/unheard/*"},
            ],
            "deny": [{"operations": ["pipelines.runs.run"], "pipelines": [99]}],
        },
        "publisher": {
            "allow": [
                {"operations": ["git.fetch", "git.push", "git.lfs.fetch", "git.lfs.push", "git.lfs.lock"], "repositories": ["analytics/dags"]},
                {"access": ["read"], "areas": ["git"], "projects": ["analytics"]},
            ]
        },
        "committer": {"allow": [{"operations": ["git.fetch", "git.push"], "repositories": ["analytics/dags"], "refs": ["refs/heads/airflow/*"]}]},
        "reader": {"allow": [{"operations": ["core.projects.list", "discovery"]}]},
    },
    "bindings": [
        {"name": "by claim: " + role, "callers": {"issuer": issuer, "claims": {"roles": role}}, "roles": [role], "credential": "etl"}
        for issuer in ("airflow",) for role in ("operator", "publisher", "committer", "reader")
    ],
}


def policy_for(*issuers):
    """The same for issuers of other names."""
    bindings = [{**b, "name": "%s of %s" % (b["name"], issuer), "callers": {**b["callers"], "issuer": issuer}}
                for issuer in issuers for b in POLICY["bindings"]]
    return {**POLICY, "bindings": bindings}
