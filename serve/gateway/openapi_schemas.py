"""What the gateway takes and gives, as JSON Schema: the parts that `serve.gateway.openapi` puts together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serve.gateway.open_inference import KEY, MATRIX, OUTPUTS, SERVER, TEXT_MOST
from serve.gateway.strict_json import EXACT_MOST
from serve.gateway.tensors import BYTES, DATATYPES, NUMBERS, ROWS_MOST
from validators.scoring.bundle import ReleaseSpec
from validators.scoring.features import Feature

Json = dict[str, Any]

_TEXT: Json = {"type": "string", "minLength": 1}
_DIGEST: Json = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_DECISION_ID: Json = {"type": "string", "minLength": 1, "maxLength": 64}
_NULL_OR_TEXT: Json = {"type": ["string", "null"]}
_ROLE: Json = {"enum": ["champion", "challenger", "baseline"]}
NAME: Json = {"type": "string", "minLength": 1, "maxLength": TEXT_MOST, "description": "Printable characters only."}
_OUTPUT_NAMES = list(OUTPUTS)
_NUMBER: Json = {"type": "number", "minimum": -EXACT_MOST, "maximum": EXACT_MOST}


def ref(name: str) -> Json:
    """A schema of the document by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(required: Json, optional: Json | None = None, *, more: bool = False) -> Json:
    """An object of these members; others may be there where `more` says so."""
    schema: Json = {"type": "object", "properties": required | (optional or {}), "additionalProperties": more}
    return schema | ({"required": list(required)} if required else {})


def schemas() -> dict[str, Json]:
    """The schemas that hold for every model, by name."""
    return _named() | _tensors() | _about() | {"Problem": _problem()}


def _named() -> dict[str, Json]:
    cell: Json = {"type": ["string", "number"]}
    return {
        "Features": {"type": "object", "additionalProperties": cell, "description": "Values by the features' names."},
        "Decide": decide(ref("Features")),
        "Decision": decision(_TEXT),
        "Reason": object_of({"code": _TEXT, "text": _TEXT}, more=True),
        "Outcome": object_of({"decision_id": _DECISION_ID, "outcome": {"enum": [0, 1]}}),
        "Recorded": object_of({"decision_id": _DECISION_ID, "recorded": {"const": True}}),
    }


def decide(features: Json) -> Json:
    """The body that asks for one decision: by values, or by an entity whose values are looked up."""
    named = "Names the customer, who stays on one side of a trial; printable. Where absent, the features do."
    purpose = {"enum": ["customer", "verification"], "default": "customer", "description": "The latter is for services"}
    about: Json = {KEY: {"oneOf": [NAME | {"description": named}, {"type": "null"}]}, "purpose": purpose}
    entity: Json = {"type": "object", "minProperties": 1, "description": "The entity's key, by name."}
    nothing: Json = {"type": "null"}
    return {
        "oneOf": [
            object_of({"features": features}, about | {"entity": nothing}),
            object_of({"entity": entity}, about | {"features": nothing}),
        ]
    }


def decision(words: Json) -> Json:
    """One decision as it is given; `words` are those that the model decides between."""
    score: Json = {"type": "number", "minimum": 0, "maximum": 1}
    return object_of(
        {
            "decision": words,
            "score": score,
            "threshold": {"type": "number"},
            "decision_id": _DECISION_ID,
            "release": _TEXT,
            "digest": _DIGEST,
            "role": _ROLE,
            "fallback": _NULL_OR_TEXT | {"description": "Why the champion did not answer; null where it did."},
            "reasons": {"type": "array", "items": ref("Reason")},
        },
        more=True,
    )


def _tensors() -> dict[str, Json]:
    of_parameters = {"content_type": {"description": "A hint of some clients; not needed."}}
    size: Json = {"type": "integer", "minimum": 0, "description": "Bytes of this tensor behind the JSON."}
    return {
        "Parameters": object_of(
            {},
            {
                "keys": {"type": "array", "items": NAME, "maxItems": ROWS_MOST, "description": "One a row."},
                "binary_data_output": {"type": ["boolean", "null"]},
                **of_parameters,
            },
        ),
        "Input": tensor({"type": "string", "minLength": 1}, {"enum": list(DATATYPES)}, {"type": ["number", "string"]}),
        "WantedOutput": object_of(
            {"name": {"enum": _OUTPUT_NAMES}},
            {"parameters": object_of({}, {"binary_data": {"type": ["boolean", "null"]}, **of_parameters})},
        ),
        "Infer": infer({"type": "array", "minItems": 1, "items": ref("Input")}),
        "Output": object_of(
            {
                "name": {"enum": _OUTPUT_NAMES},
                "datatype": {"enum": ["FP64", BYTES]},
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 1},
            },
            {"data": {"type": "array", "minItems": 1}, "parameters": object_of({"binary_data_size": size})},
        ),
        "Inferred": object_of(
            {"model_name": _TEXT, "outputs": {"type": "array", "items": ref("Output")}},
            {"model_version": _TEXT, "id": NAME},
        ),
    }


def tensor(name: Json, datatype: Json, cell: Json) -> Json:
    """A tensor whose values stand in the JSON, or behind it where `parameters` says how many bytes it has."""
    row: Json = {"type": "integer", "minimum": 1, "maximum": ROWS_MOST}
    width: Json = {"type": "integer", "minimum": 0}
    shape: Json = {"type": "array", "prefixItems": [row, width], "minItems": 1, "maxItems": 2}
    size: Json = {"type": ["integer", "null"], "minimum": 0}
    nested: Json = {"type": "array", "items": cell}
    return object_of(
        {"name": name, "datatype": datatype, "shape": shape},
        {
            "data": {"type": "array", "items": {"anyOf": [cell, nested]}, "description": "Row by row."},
            "parameters": object_of({}, {"binary_data_size": size, "content_type": {}}),
        },
        more=True,
    )


def infer(inputs: Json) -> Json:
    """The JSON of a request of tensors."""
    outputs: Json = {"type": ["array", "null"], "items": ref("WantedOutput"), "description": "All where absent."}
    parameters: Json = {"oneOf": [ref("Parameters"), {"type": "null"}]}
    return object_of(
        {"inputs": inputs},
        {"id": NAME, "model_name": {"type": "string"}, "outputs": outputs, "parameters": parameters},
    )


def _about() -> dict[str, Json]:
    shape: Json = {"type": "array", "items": {"type": "integer"}}
    tensor_about = object_of({"name": _TEXT, "datatype": {"enum": list(DATATYPES)}, "shape": shape}, more=True)
    target = {"oneOf": [object_of({"release": _TEXT, "digest": _DIGEST}), {"type": "null"}]}
    names = ("champion", "previous", "baseline", "challenger")
    share: Json = {"type": "number", "minimum": 0, "maximum": 1}
    known: Json = {"model": _TEXT, **dict.fromkeys(names, target), "share": share, "salt": {"type": "string"}}
    return {
        "Server": object_of(
            {"name": {"const": SERVER["name"]}, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}}
        ),
        "Live": object_of({"live": {"type": "boolean"}}),
        "Ready": object_of({"ready": {"type": "boolean"}}),
        "ModelReady": object_of({"name": _TEXT, "ready": {"const": True}}),
        "ModelMetadata": object_of(
            {
                "name": _TEXT,
                "versions": {"type": "array", "items": _TEXT},
                "platform": _TEXT,
                "inputs": {"type": "array", "items": tensor_about},
                "outputs": {"type": "array", "items": tensor_about},
            }
        ),
        "Route": object_of(known, more=True),
        "RouteTable": object_of(
            {
                "epoch": {"type": "integer", "minimum": 0},
                "version": {"type": "integer", "minimum": 0},
                "routes": {"type": "object", "additionalProperties": ref("Route")},
                "replica": _TEXT,
                "refused": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            more=True,
        ),
    }


def _problem() -> Json:
    error = _TEXT | {"description": "What happened, which value, what was expected."}
    row: Json = {"type": "integer", "minimum": 0, "maximum": ROWS_MOST - 1, "description": "Of the row that is wrong."}
    more: Json = {"field": {"type": "string"}, "row": row, "expected": {"type": "string"}}
    return object_of({"error": error, "code": _TEXT}, more | {"allowed": {"type": "string"}}, more=True)


def features_of(features: Sequence[Feature]) -> Json:
    """Named values of one model. What fits is taken however it is written: 1e20 is a number too, but no whole one."""
    return object_of({feature.name: cell_of(feature) for feature in features})


def cell_of(feature: Feature) -> Json:
    """One value of a feature."""
    told: Json = {"description": feature.expected}
    if feature.type == "category":
        return told | {"enum": list(feature.categories or ())}
    low, high = feature.minimum, feature.maximum
    return told | {
        "type": "integer" if feature.type == "integer" else "number",
        "minimum": max(-EXACT_MOST, low) if low is not None else -EXACT_MOST,
        "maximum": min(EXACT_MOST, high) if high is not None else EXACT_MOST,
    }


def inputs_of(features: Sequence[Feature]) -> Json:
    """Tensors of one model: one a feature in any order, and the keys; or all features in one matrix of numbers."""
    numbers: Json = {"enum": list(NUMBERS)}
    kinds = [
        tensor({"const": one.name}, numbers if _is_number(one) else {"const": BYTES}, cell_of(one)) for one in features
    ]
    names = {feature.name for feature in features}
    if KEY not in names:
        kinds.append(tensor({"const": KEY}, {"const": BYTES}, NAME))
    each: Json = {"type": "array", "minItems": len(features), "maxItems": len(kinds), "items": {"anyOf": kinds}}
    if MATRIX in names or not all(map(_is_number, features)):
        return each
    matrix = tensor({"const": MATRIX}, numbers, _NUMBER)
    return {"anyOf": [each, {"type": "array", "prefixItems": [matrix], "minItems": 1, "maxItems": len(kinds)}]}


def _is_number(feature: Feature) -> bool:
    return feature.type != "category" or all(isinstance(category, int) for category in feature.categories or ())


def model_schemas(spec: ReleaseSpec) -> dict[str, Json]:
    """The schemas of one model, by name: what is asked and given in the words of its release."""
    name = spec.model
    return {
        f"Features.{name}": features_of(spec.features),
        f"Decide.{name}": decide(ref(f"Features.{name}")),
        f"Decision.{name}": decision({"enum": [spec.favourable, spec.adverse]}),
        f"Infer.{name}": infer(inputs_of(spec.features)),
    }
