"""The API's document (OpenAPI 3.1): Litestar says which operations there are, the classes and cases say the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args, get_origin

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.routes import HTTPRoute
from litestar.types import ControllerRouterHandler

from maildaemon_http.api.asking import IF_MATCH, LARGEST_ID
from maildaemon_http.api.describing import OPTION, Described, refusals_of
from maildaemon_http.api.examples import OF_SCHEMAS
from maildaemon_http.api.frame import VERSION
from maildaemon_http.api.pages import Page
from maildaemon_http.api.problems import MEDIA_TYPE, Case, Problem
from maildaemon_http.api.schema import Schemas
from maildaemon_http.api.settings import Limits

Json = dict[str, Any]

CONFIG: Final = OpenAPIConfig(
    title="Maildaemon API",
    use_handler_docstrings=True,
    version=VERSION,
    description="This API gives you the opportunity to read the monitoring databases and create, edit and delete "
    "mailbox configurations.",
    components=Components(
        security_schemes={
            "apiKey": SecurityScheme(type="apiKey", name="x-api-key", security_scheme_in="header"),
            "bearer": SecurityScheme(type="http", scheme="bearer", description="An API key as a bearer token."),
        }
    ),
    tags=[
        Tag(name="Mailbox", description="Mailbox configurations."),
        Tag(name="Monitoring", description="What became of every mail."),
        Tag(name="Service", description="How the service itself is."),
    ],
    security=[{"apiKey": []}, {"bearer": []}],
)

_API_VERSION: Final[Json] = {"type": "string", "title": "ApiVersion", "enum": [VERSION]}
"""No ``const``, of which some generators of clients make nothing; and named, so that they make one class of it."""

_HEADERS: Final[Mapping[str, Json]] = {
    "x-api-version": {
        "description": f"The version of the API; absent means {VERSION}.",
        "schema": {"$ref": "#/components/schemas/ApiVersion"},
    },
    "Idempotency-Key": {
        "description": "A text of your own for this request; sent again with it, the request is not carried out twice.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    },
    "If-Match": {
        "description": "The ETag of the configuration that is meant.",
        "schema": {"type": "string", "pattern": IF_MATCH},
    },
}
_ANSWER_HEADERS: Final[Mapping[str, Json]] = {
    "x-api-version": {"description": "The version of the API that answers.", "schema": {"const": VERSION}},
    "x-request-id": {"description": "Finds the request in the log.", "schema": {"type": "string"}},
    "ETag": {"description": "The version of the configuration.", "schema": {"type": "string"}},
    "Location": {"description": "Where it is from now on.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "How a key is sent.", "schema": {"type": "string"}},
}
_PATH_PARAMETERS: Final[Mapping[str, Json]] = {
    "uuid": {"description": "The id of the mailbox.", "schema": {"type": "string", "format": "uuid"}},
    "id": {
        "description": "The number of the mail.",
        "schema": {"type": "integer", "format": "int32", "minimum": 0, "maximum": LARGEST_ID},
    },
}
_ORDER: Final = ("get", "post", "put", "patch", "delete")


def document(handlers: Sequence[ControllerRouterHandler], *, limits: Limits) -> Json:
    """The document of the operations that are described."""
    app = Litestar(handlers, openapi_config=CONFIG, logging_config=None)  # which serves nobody, nor its own pages
    made: Json = app.openapi_schema.to_schema()
    read, out = Schemas("read", longest_list=limits.list_items), Schemas("written")
    out.reference(Problem)
    paths: Json = {}
    for path, handler, method in _operations(app):
        one: Described = handler.opt[OPTION]
        operation = dict(made["paths"][path][method])
        operation["operationId"] = handler.handler_name.split(".")[-1]
        operation |= _inputs(one, path, read, limits)
        operation["responses"] = _responses(one, out)
        if one.public:
            operation["security"] = []
        paths.setdefault(path, {})[method] = operation
    # What makes a thing stands before what is done with it: tools that follow links read in this order.
    made["paths"] = dict(sorted(paths.items()))
    schemas = dict(sorted({**out.named, **read.named, "ApiVersion": _API_VERSION}.items()))
    for name, example in OF_SCHEMAS.items():
        schemas[name]["examples"] = [example]
    made["components"]["schemas"] = schemas
    return made


def _operations(app: Litestar) -> Iterator[tuple[str, HTTPRouteHandler, str]]:
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        path = route.path_format
        handlers = {method.lower(): handler for method, (handler, _) in route.route_handler_map.items()}
        for method in _ORDER:
            if method in handlers and OPTION in handlers[method].opt:
                yield path, handlers[method], method


def _inputs(one: Described, path: str, read: Schemas, limits: Limits) -> Json:
    parameters = [
        {"name": name, "in": "path", "required": True, **_PATH_PARAMETERS[name]}
        for name in _PATH_PARAMETERS
        if f"{{{name}}}" in path
    ]
    if one.query:
        parameters += _query_parameters(one.query, limits)
    parameters += [
        {"name": name, "in": "header", "required": False, **_HEADERS[name]} for name in ("x-api-version", *one.headers)
    ]
    made: Json = {"parameters": parameters}
    if one.body is None:
        return made
    schema = read.reference(one.body)
    examples = {name: {"summary": name, "value": value} for name, value in one.examples.items()}
    content = {"schema": schema, **({"examples": examples} if examples else {})}
    made["requestBody"] = {
        "required": one.body_required,
        "content": dict.fromkeys(one.body_types, content),
    }
    return made


def _query_parameters(cls: type[Any], limits: Limits) -> Iterator[Json]:
    schemas = Schemas("read")
    schemas.reference(cls)
    for name, schema in schemas.named[cls.__name__]["properties"].items():
        more = {"maximum": limits.page_items} if name == "limit" else {}
        yield {"name": name, "in": "query", "required": False, "schema": _not_null(schema) | more}


def _not_null(schema: Json) -> Json:
    """What a query can say: there is no null in it."""
    if isinstance(schema.get("type"), list):
        (kept,) = (one for one in schema["type"] if one != "null")
        return {**schema, "type": kept}
    if "anyOf" in schema:
        left = [one for one in schema["anyOf"] if one != {"type": "null"}]
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**left[0], **rest} if len(left) == 1 else {"anyOf": left, **rest}
    return schema


def _responses(one: Described, out: Schemas) -> Json:
    made: Json = {}
    for status, answer in one.answers.items():
        headers = ("x-api-version", "x-request-id", *one.answer_headers)
        made[str(status)] = {"description": _WORDS[status], "headers": _only(headers)}
        if answer is not None:
            made[str(status)]["content"] = _content(answer, out)
    for status, cases in _by_status(refusals_of(one)).items():
        names = ("x-api-version", "x-request-id", *_OF_STATUS.get(status, ()))
        same = made.get(str(status), {"description": "", "content": {}})
        titles = dict.fromkeys([*filter(None, [same["description"]]), *(case.title for case in cases)])
        made[str(status)] = {
            "description": "; ".join(titles),
            "headers": _only(names),
            "content": {**same["content"], MEDIA_TYPE: {"schema": _problem_of(cases)}},
        }
    return made


_WORDS: Final = {200: "Done", 201: "Made", 202: "Taken on", 204: "Done", 503: "Not ready"}
_OF_STATUS: Final = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}


def _only(names: Sequence[str]) -> Json:
    return {name: _ANSWER_HEADERS[name] for name in names}


def _content(answer: Any, out: Schemas) -> Json:
    if isinstance(answer, tuple):  # the media types of something that is no document
        return {media: {"schema": {"type": "string"}} for media in answer}
    if isinstance(answer, list):
        return {"application/json": {"schema": {"type": "array", "items": out.reference(answer[0])}}}
    if isinstance(answer, dict):
        return {"application/json": {"schema": answer}}
    if get_origin(answer) is Page:
        return {"application/json": {"schema": _page(get_args(answer)[0], out)}}
    return {"application/json": {"schema": out.reference(answer)}}


def _page(item: type[Any], out: Schemas) -> Json:
    name = f"{item.__name__}Page"
    out.named[name] = {
        "type": "object",
        "title": name,
        "description": "Some items; `next` is the `cursor` of the next page, null at the end.",
        "properties": {
            "items": {"type": "array", "items": out.reference(item)},
            "next": {"type": ["string", "null"]},
        },
        "required": ["items", "next"],
        "additionalProperties": False,
    }
    return {"$ref": f"#/components/schemas/{name}"}


def _by_status(cases: Sequence[Case]) -> Mapping[int, Sequence[Case]]:
    found: dict[int, list[Case]] = {}
    for case in cases:
        found.setdefault(case.status, []).append(case)
    return dict(sorted(found.items()))


def _problem_of(cases: Sequence[Case]) -> Json:
    """A problem of one of these types; said beside the reference, so that clients have one class for all problems."""
    return {
        "$ref": "#/components/schemas/Problem",
        "properties": {"type": {"enum": [case.type for case in cases]}},
    }
