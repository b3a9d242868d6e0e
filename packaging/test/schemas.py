#!/usr/bin/env python3
"""schemas.py SWAGGER FOLDER KIND…: Kubernetes' own OpenAPI document as JSON schemas for kubeconform, one file for each kind.

References are resolved in place. A field that Kubernetes does not know is refused, as its API server does with strict validation.
"""

import json
import pathlib
import sys

# What the document has as strings, and manifests as numbers too.
LOOSE = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def main():
    definitions = json.load(open(sys.argv[1]))["definitions"]
    folder = pathlib.Path(sys.argv[2])
    wanted = {kind.lower() for kind in sys.argv[3:]}
    folder.mkdir(parents=True, exist_ok=True)

    def resolved(schema, above=()):
        if "$ref" in schema:
            name = schema["$ref"].removeprefix("#/definitions/")
            if name in LOOSE:
                return LOOSE[name]
            # Only the schema of schemas refers to itself.
            return {} if name in above else resolved(definitions[name], (*above, name))
        out = {key: schema[key] for key in ("type", "required", "enum") if key in schema}
        if "properties" in schema:
            out["properties"] = {key: resolved(value, above) for key, value in schema["properties"].items()}
            out["additionalProperties"] = False
        if "items" in schema:
            out["items"] = resolved(schema["items"], above)
        if isinstance(schema.get("additionalProperties"), dict):
            out["additionalProperties"] = resolved(schema["additionalProperties"], above)
        return out

    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            if kind["kind"].lower() in wanted:
                group = kind["group"].split(".")[0]
                suffix = "-".join(part for part in (group, kind["version"]) if part)
                schema = resolved(definition, (name,))
                schema.get("properties", {})["apiVersion"] = {"type": "string"}
                (folder / f"{kind['kind'].lower()}-{suffix}.json").write_text(json.dumps(schema))


main()
