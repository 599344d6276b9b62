"""`Idempotency-Key` for a view that makes runs, in one line:

@extend_schema(**documentation.RUN)
@idempotent
def post(self, request, pipeline_id): ...
"""

import functools
import json
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView
from brokoli_site.common.json import dumps
from runs import idempotency
from runs.idempotency import Answer

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
P = ParamSpec("P")
View = TypeVar("View", bound=ApiView)
Method = Callable[Concatenate[View, Request, P], Response]


def idempotent(method: Method[View, P]) -> Method[View, P]:
    """With the header, the same request is done once and answered the same; without it, every request is done."""

    @functools.wraps(method)
    def answered(view: View, request: Request, /, *args: P.args, **kwargs: P.kwargs) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return method(view, request, *args, **kwargs)
        # Reads the body, which a slow client may take long to send, before any transaction begins.
        asked = idempotency.request(user_id=request.user.pk, key=key, method=str(request.method), path=request.path, body=request.data)
        return once(asked, lambda: method(view, request, *args, **kwargs))

    return answered


def once(asked: idempotency.Request, act: Callable[[], Response]) -> Response:
    """The response of `act`, which is called unless this was answered within a day."""
    answer, replayed = idempotency.once(asked, lambda: _answer(act()))
    return Response(answer.body, status=answer.status, headers={**answer.headers, **({REPLAYED: "true"} if replayed else {})})


def _answer(response: Response) -> Answer:
    headers = {name: value for name, value in response.items() if name != "Content-Type"}
    body: Any = json.loads(dumps(response.data))
    return Answer(response.status_code, headers, body)
