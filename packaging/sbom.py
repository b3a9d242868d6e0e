#!/usr/bin/env python3
"""sbom.py TARGET: prints a CycloneDX 1.5 document of what is linked into the program for a target.

Made of cargo's own resolution and Cargo.lock's checksums, without dev-dependencies and build-dependencies. The same for every run of
one commit: it has no time, and its serial number is a hash of its contents.
"""

import hashlib
import json
import os
import subprocess
import sys
import tomllib
import uuid
from urllib.parse import quote


def main():
    target = sys.argv[1]
    command = ["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={target}"]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    with open("Cargo.lock", "rb") as lock:
        checksums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(lock)["package"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]

    def linked(node):
        """What a crate is linked with: neither what tests it nor what builds it, nor macros, which run while it is built."""
        for dependency in node["deps"]:
            is_macro = any("proc-macro" in kind for target in packages[dependency["pkg"]]["targets"] for kind in target["kind"])
            if not is_macro and any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                yield dependency["pkg"]

    found, left = {root}, [root]
    while left:
        for one in linked(nodes[left.pop()]):
            if one not in found:
                found.add(one)
                left.append(one)

    def purl(package):
        return f"pkg:cargo/{quote(package['name'])}@{quote(package['version'])}"

    def component(package, kind):
        about = {"type": kind, "bom-ref": purl(package), "name": package["name"], "version": package["version"], "purl": purl(package)}
        if package.get("license"):
            # Cargo takes a slash for OR, SPDX does not.
            about["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = checksums.get((package["name"], package["version"]))
        if checksum:
            about["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return about

    of = lambda one: purl(packages[one])
    others = sorted((one for one in found if one != root), key=of)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": component(packages[root], "application"),
            "properties": [
                {"name": "target", "value": target},
                {"name": "commit", "value": os.environ.get("BUILD_COMMIT", "unknown")},
            ],
        },
        "components": [component(packages[one], "library") for one in others],
        "dependencies": [
            {"ref": of(one), "dependsOn": sorted({of(other) for other in linked(nodes[one])})} for one in sorted(found, key=of)
        ],
    }
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()
    document["serialNumber"] = f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}"
    json.dump(document, sys.stdout, indent=1, sort_keys=True)
    print()


main()
