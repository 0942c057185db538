"""Structural schemas, read strictly: a field that the schema does not know is an error, as in server-side apply."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.k8s.tools import ROOT

CRDS = Path(os.environ.get("MASTERS_CRDS", ROOT.parent / "shared" / "kuberay-crds"))

needs_crds = pytest.mark.skipif(
    not CRDS.is_dir(), reason="the CRDs of KubeRay are neither beside the repository nor at MASTERS_CRDS"
)


def closed(schema: object) -> object:
    """The schema with unknown fields refused wherever it does not say that they are kept."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        found["additionalProperties"] = False
    return found


@cache
def crd(kind: str) -> dict:
    """The schema of version v1 of one of KubeRay's kinds, as it is served."""
    file = CRDS / f"ray.io_{kind.lower()}s.yaml"
    versions = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)["spec"]["versions"]
    (served,) = (one for one in versions if one["name"] == "v1")
    return served["schema"]["openAPIV3Schema"]


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    """Of a custom resource; `Pod` is read out of RayCluster, which holds the whole of PodSpec."""
    if kind == "Pod":
        head = crd("RayCluster")["properties"]["spec"]["properties"]["headGroupSpec"]["properties"]["template"]
        schema = {**head, "properties": {**head["properties"], "apiVersion": {}, "kind": {}}}
        schema["properties"]["metadata"] = {"type": "object"}
    else:
        schema = crd(kind)
        schema = {**schema, "properties": {**schema["properties"], "metadata": {"type": "object"}}}
    return jsonschema.Draft202012Validator(closed(schema))


def problems(kind: str, one: dict) -> list[str]:
    """What the schema holds against an object."""
    return [f"{error.json_path}: {error.message}" for error in validator(kind).iter_errors(one)]


def missing_defaults(schema: dict, value: object, path: str = "$") -> Iterator[str]:
    """Fields that the API server would fill in."""
    if isinstance(value, dict):
        for key, below in schema.get("properties", {}).items():
            if key in value:
                yield from missing_defaults(below, value[key], f"{path}.{key}")
            elif "default" in below:
                yield f"{path}.{key} = {below['default']!r}"
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from missing_defaults(schema.get("items", {}), one, f"{path}[{index}]")
