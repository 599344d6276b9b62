"""Runs that other systems ask for. A sender shows the pipeline's token, or signs what it sends with it.

Whatever is wrong (no such pipeline, disabled, deleted, no token, another token) is refused alike, after the same work: one query, one token
opened, one comparison of each kind. Who may read the worker's log is told the reason there.
"""

import functools
import hashlib
import hmac
import json
from typing import Any

import structlog
from django.conf import settings

from brokoli_site.common.errors import NotFound, TooLarge
from brokoli_site.common.secrets import Keyring, SecretUnreadable
from pipelines import webhook_tokens, webhooks
from pipelines.models import Pipeline, WebhookToken
from runs import triggers

logger = structlog.get_logger(__name__)

PAYLOAD = "payload"  # the param that takes what a sender has to say that is no request of ours
_SCHEME = "sha256="
_NOBODY = "nobody"


def admit(key: str, *, token: str | None, signature: str | None, body: bytes) -> Pipeline:
    """The pipeline that an id or a slug names, for a sender that knows its token. A token that is shown goes before a signature.

    `signature` is GitHub's: `sha256=` and the hexadecimal HMAC-SHA256 of the raw body under the token. Errors: `NotFound`.
    """
    row = webhooks.find(key)
    known = _token_of(row)
    if known is None:
        row, known = None, _token_of(None) or ""
    shown = _same((token or "").encode(), known.encode())
    signed = _same((signature or "").lower().encode(), signature_of(body, known).encode())
    right = shown if token is not None else signed
    if row is None or not right:
        if row is not None:
            reason = "wrong token" if token is not None else "no token" if signature is None else "wrong signature"
            logger.warning("webhook refused", pipeline_id=str(row.pipeline_id), reason=reason)
        raise NotFound("There is no such webhook: the pipeline, its token, or the signature is not one that is known here.")
    return row.pipeline


def signature_of(body: bytes, token: str) -> str:
    return _SCHEME + hmac.new(token.encode(), body, hashlib.sha256).hexdigest()


def takes_payload(pipeline: Pipeline) -> bool:
    """Whether the pipeline has a param for what a sender says in its own form."""
    definition = triggers.warm(pipeline)
    return definition is not None and (PAYLOAD in definition.params or any(found.name == PAYLOAD for found in definition.parameters))


def payload(body: Any, longest: int) -> str:
    """What a sender says, as JSON text. Errors: `TooLarge`."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    if len(text) > longest:
        raise TooLarge(f"The body has {len(text):,} characters as a param, and '{PAYLOAD}' may have {longest:,}; send less, or take the param away.")
    return text


def _token_of(row: WebhookToken | None) -> str | None:
    """Its token, or one that nobody has, for the same work. None: it cannot be opened."""
    if row is None:
        return settings.KEYRING.open(_decoy(settings.KEYRING), _NOBODY)
    try:
        return webhooks.opened(row)
    except SecretUnreadable as error:
        logger.exception("webhook refused", pipeline_id=str(row.pipeline_id), reason=error.message)
        return None


@functools.lru_cache(maxsize=4)
def _decoy(keyring: Keyring) -> str:
    return keyring.seal(webhook_tokens.make(), _NOBODY)


def _same(one: bytes, other: bytes) -> bool:
    # Digests, so that not even the length of the token can be measured.
    return hmac.compare_digest(hashlib.sha256(one).digest(), hashlib.sha256(other).digest())
