"""Use cases on pipelines: create, change, delete, roll back, clone, export, import. REST, the admin and commands all call these.

Every change makes a new immutable version. Two changes at the same moment are decided by a guarded UPDATE of the version
number; who loses either hears of it (when they said which version they had seen) or has their change applied on top.
"""

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.text import slugify

from brokoli_site.common import yaml
from brokoli_site.common.errors import BadRequest, Conflict, NotFound, PreconditionFailed
from brokoli_site.common.ids import parse_id
from pipelines import audited, documents, object_rules, search_terms, upstreams, used_by, validation, webhook_tokens, webhooks
from pipelines.assets import rows as asset_rows
from pipelines.assets.graph import Graph
from pipelines.guards import deletion_guards, save_listeners
from pipelines.models import Pipeline, PipelineVersion
from pipelines.spec import LONGEST_NAME, PipelineSpec, read

_ATTEMPTS = 10  # rivals that may win against one change before it gives up
_LONGEST_BASE = 80  # characters of a slug that is made of a name, before its suffix

Document = Mapping[str, Any]
OnTaken = Literal["refuse", "rename", "replace"]


@dataclass(frozen=True, slots=True)
class Definition:
    """A pipeline at one of its versions."""

    pipeline: Pipeline
    version: PipelineVersion

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = self.version.document
        return found


def identify(key: str) -> uuid.UUID | None:
    """The id that a client means, who may name a pipeline by its slug as well; None: neither. An id need not exist."""
    return parse_id(key) or Pipeline.objects.live().filter(pipeline_id=key).values_list("id", flat=True).first()


def find(pipeline_id: uuid.UUID | None) -> Definition:
    """The pipeline at its current version, in one query. Errors: `NotFound`."""
    rows = PipelineVersion.objects.select_related("pipeline").filter(pipeline__deleted_at__isnull=True, number=F("pipeline__version"))
    version = rows.filter(pipeline_id=pipeline_id).first() if pipeline_id else None
    if version is None:
        raise _not_found()
    return Definition(version.pipeline, version)


def find_version(pipeline_id: uuid.UUID | None, number: int) -> Definition:
    """The pipeline at that version. Errors: `NotFound`."""
    rows = PipelineVersion.objects.select_related("pipeline").filter(pipeline__deleted_at__isnull=True, number=number)
    version = rows.filter(pipeline_id=pipeline_id).first() if pipeline_id else None
    if version is None:
        raise NotFound(f"The pipeline has no version {number}.")
    return Definition(version.pipeline, version)


def create(document: Document, *, user: Any = None, comment: str = "", slug_base: str = "", action: str = "created") -> Definition:
    """A new pipeline at version 1. Its slug is the document's `pipeline_id`, or made of `slug_base` or of its name. `action`: for the audit log.

    Errors: `InvalidPipeline` with every problem of the structure; `MayNotName`; `Conflict` when the document's slug is taken.
    """
    wanted, stored, spec = _checked(document)
    object_rules.refuse_uses(spec, user)
    token = webhook_tokens.given(document)
    base = (slug_base or slugify(stored["name"]))[:_LONGEST_BASE].strip("-_") or "pipeline"
    lineage = asset_rows.lineage_of(spec)
    for _ in range(_ATTEMPTS):
        slug = wanted or _free_slug(base)
        try:
            with transaction.atomic():
                made = _insert(slug, stored, spec, lineage, user, comment)
                audited.pipeline_changed(action, made.pipeline, None, audited.pipeline_state(slug, 1, stored, comment))
                return _with_webhook(made, token)
        except IntegrityError as error:
            if not Pipeline.objects.live().filter(pipeline_id=slug).exists():
                raise
            if wanted:
                raise _taken(slug) from error
    raise Conflict("Too many pipelines of that name are being made at this moment; try again.")


def change(
    pipeline_id: uuid.UUID | None,
    make: Callable[[dict[str, Any]], Document],
    *,
    seen: Collection[int] | None = None,
    user: Any = None,
    comment: str = "",
    action: str = "updated",
) -> Definition:
    """A new version, whose document `make` makes of the current one. `action`: for the audit log.

    `seen` are the versions that the change may follow; None: whichever is current. Errors: `NotFound`; `PreconditionFailed` when
    another version is current; `InvalidPipeline`; `MayNotName`; `Conflict` when the document's slug is taken.
    """
    for _ in range(_ATTEMPTS):
        current = find(pipeline_id)
        document = make(current.document)
        wanted, stored, spec = _checked(document)  # outside the transaction: it may take a while
        object_rules.refuse_uses(spec, user, earlier=current.document)
        # A precondition only counts for a request that is right otherwise (RFC 9110, 13.2.1).
        _check_seen(current.pipeline, seen)
        slug = wanted or current.pipeline.pipeline_id
        lineage = asset_rows.lineage_of(spec)
        before = audited.pipeline_state(current.pipeline.pipeline_id, current.version.number, current.document)
        try:
            with transaction.atomic():
                changed = _update(current, slug, stored, spec, lineage, user, comment)
                if changed is not None:
                    after = audited.pipeline_state(slug, changed.version.number, stored, comment)
                    audited.pipeline_changed(action, changed.pipeline, before, after)
                    _with_webhook(changed, webhook_tokens.given(document))
        except IntegrityError as error:
            if not Pipeline.objects.live().filter(pipeline_id=slug).exclude(id=current.pipeline.id).exists():
                raise
            raise _taken(slug) from error
        if changed is not None:
            return changed
    raise Conflict("The pipeline is being changed by others all the time; try again.")


def replace(pipeline_id: uuid.UUID | None, document: Document, *, seen: Collection[int] | None = None, user: Any = None) -> Definition:
    """A new version that is this document. Errors: those of `change`."""
    return change(pipeline_id, lambda _: document, seen=seen, user=user)


def patch(pipeline_id: uuid.UUID | None, changes: Document, *, seen: Collection[int] | None = None, user: Any = None) -> Definition:
    """A new version with these keys changed (JSON Merge Patch, RFC 7396). Errors: those of `change`."""
    return change(pipeline_id, lambda current: documents.merged(current, changes), seen=seen, user=user)


def rollback(pipeline_id: uuid.UUID | None, number: int, *, seen: Collection[int] | None = None, user: Any = None) -> Definition:
    """A new version that does what version `number` did. Whether the pipeline is enabled stays as it is: that is a switch, not a definition.

    Errors: those of `change`; `NotFound` when there is no such version.
    """
    find(pipeline_id)
    old = find_version(pipeline_id, number).document
    comment = f"Back to version {number}"
    return change(
        pipeline_id, lambda current: {**old, "enabled": current.get("enabled")}, seen=seen, user=user, comment=comment, action="rolled_back"
    )


def clone(pipeline_id: uuid.UUID | None, *, name: str = "", user: Any = None) -> Definition:
    """A new pipeline with the same definition. One with a schedule starts disabled, so that nothing runs twice unasked.

    Errors: `NotFound`; `InvalidPipeline`.
    """
    original = find(pipeline_id)
    document = documents.normalised(original.document)
    name = name or f"{document['name'][: LONGEST_NAME - 7]} (copy)"
    comment = f"Clone of {original.pipeline.pipeline_id}, version {original.version.number}"
    return create(
        {**document, "name": name, "enabled": document["enabled"] and not document["schedule"]}, user=user, comment=comment[:200], action="cloned"
    )


def delete(pipeline_id: uuid.UUID | None, *, seen: Collection[int] | None = None) -> None:
    """The pipeline is gone for everybody; its runs stay until they are purged.

    Errors: `NotFound`; `PreconditionFailed`; `Conflict` while runs of it are active or other pipelines depend on it.
    """
    with transaction.atomic():
        # A run that is being accepted locks the row too, so one of the two waits for the other.
        pipeline = Pipeline.objects.live().select_for_update().filter(id=pipeline_id).first() if pipeline_id else None
        if pipeline is None:
            raise _not_found()
        for guard in deletion_guards:
            guard(pipeline.id)
        _check_seen(pipeline, seen)
        upstreams.let_go(pipeline)
        search_terms.forget(pipeline)
        Pipeline.objects.filter(id=pipeline.id).update(deleted_at=timezone.now())
        audited.pipeline_changed("deleted", pipeline, {"pipeline_id": pipeline.pipeline_id, "version": pipeline.version}, None)
        webhooks.remove_of(pipeline)


def validate(document: Document, pipeline: Pipeline | None = None) -> validation.Report:
    """Everything that can be said of a document before it runs, and of the pipelines, variables and connections that it names."""
    report = validation.validate(document)
    wrong = upstreams.problems_of(document, pipeline.id if pipeline else None)
    return validation.Report((*report.errors, *wrong), (*report.warnings, *used_by.warnings(documents.normalised(document))))


def export(definition: Definition) -> str:
    """The definition as YAML that `import_document` reads back the same."""
    return yaml.dumps({"pipeline_id": definition.pipeline.pipeline_id, **definition.document})


def import_document(document: Document, *, on_taken: OnTaken = "refuse", user: Any = None) -> tuple[Definition, bool]:
    """The pipeline that an exported document describes, and whether it is new. A token of a webhook is not taken over from a file.

    When a pipeline has its slug: refuse, take another slug (`rename`), or make a new version of that pipeline (`replace`).
    Errors: `InvalidPipeline`; `Conflict` when the slug is taken.
    """
    document = webhook_tokens.without(document)
    slug = document.get("pipeline_id")
    rival = Pipeline.objects.live().filter(pipeline_id=slug).first() if isinstance(slug, str) and slug else None
    if rival is not None and on_taken == "replace":
        return change(rival.id, lambda _: document, user=user, comment="Imported", action="imported"), False
    if rival is not None and on_taken == "rename":
        return create({**document, "pipeline_id": ""}, user=user, comment="Imported", slug_base=rival.pipeline_id, action="imported"), True
    return create(document, user=user, comment="Imported", action="imported"), True


def represented(definition: Definition) -> dict[str, Any]:
    """The pipeline as the API shows it: the document, and what the server knows."""
    pipeline, document = definition.pipeline, definition.document
    return {
        "id": pipeline.id,
        "pipeline_id": pipeline.pipeline_id,
        **{key: document.get(key, default) for key, default in documents.DEFAULTS.items()},
        "version": definition.version.number,
        "created_at": pipeline.created_at,
        "updated_at": definition.version.created_at,
        **{key: value for key, value in document.items() if key not in documents.DEFAULTS},
    }


def _checked(document: Document) -> tuple[str, dict[str, Any], PipelineSpec]:
    """The slug that the document asks for ("" for none), the document to store, and what it says. Errors: `InvalidPipeline`."""
    if not isinstance(document, Mapping):
        raise BadRequest("A pipeline must be an object.")
    stored = documents.normalised(document)
    spec = validation.check_structure({**stored, **{key: document.get(key) for key in ("pipeline_id", webhook_tokens.KEY)}})
    return document.get("pipeline_id") or "", stored, spec


def _columns(document: dict[str, Any], spec: PipelineSpec) -> dict[str, Any]:
    """What the pipeline's row repeats of the document, for listing, search and the queue."""
    keys = ("name", "description", "enabled", "schedule", "schedule_timezone", "tags")
    return {key: document[key] for key in keys} | {"node_count": len(spec.nodes), "max_active_runs": spec.max_active_runs}


def _insert(slug: str, document: dict[str, Any], spec: PipelineSpec, lineage: Graph, user: object, comment: str) -> Definition:
    upstreams.lock(spec.dependencies)
    now = timezone.now()
    pipeline = Pipeline.objects.create(pipeline_id=slug, version=1, created_at=now, updated_at=now, **_columns(document, spec))
    version = PipelineVersion.objects.create(
        pipeline=pipeline, number=1, document=document, comment=comment, created_at=now, created_by_id=_user_id(user)
    )
    upstreams.keep(pipeline, spec.dependencies)
    used_by.keep(pipeline, spec)
    asset_rows.keep(pipeline.id, 1, lineage)
    search_terms.keep(pipeline, spec)
    _tell(pipeline, spec)
    return Definition(pipeline, version)


def _update(
    current: Definition, slug: str, document: dict[str, Any], spec: PipelineSpec, lineage: Graph, user: object, comment: str
) -> Definition | None:
    """The next version; None when a rival made it first. Call inside a transaction."""
    upstreams.lock(spec.dependencies, current.pipeline.id)
    number, now = current.version.number + 1, timezone.now()
    changed = Pipeline.objects.live().filter(id=current.pipeline.id, version=current.version.number)
    if not changed.update(pipeline_id=slug, version=number, updated_at=now, **_columns(document, spec)):
        return None
    version = PipelineVersion.objects.create(
        pipeline_id=current.pipeline.id, number=number, document=document, comment=comment, created_at=now, created_by_id=_user_id(user)
    )
    pipeline = current.pipeline
    earlier = list(search_terms.keys(pipeline.pipeline_id, pipeline.name, pipeline.description, read(current.document)[0]))
    pipeline.pipeline_id, pipeline.version, pipeline.updated_at = slug, number, now
    for key, value in _columns(document, spec).items():
        setattr(pipeline, key, value)
    upstreams.keep(pipeline, spec.dependencies, earlier=current.document)
    used_by.keep(pipeline, spec, earlier=current.document)
    asset_rows.keep(pipeline.id, number, lineage)
    search_terms.keep(pipeline, spec, earlier=earlier)
    _tell(pipeline, spec)
    return Definition(pipeline, version)


def _with_webhook(made: Definition, token: str | None) -> Definition:
    """Keep the token that came with a document. Call in the transaction that wrote the pipeline's row."""
    if token is not None:
        webhooks.keep(made.pipeline, token)
    return made


def _tell(pipeline: Pipeline, spec: PipelineSpec) -> None:
    for listen in save_listeners:
        listen(pipeline, spec)


def _free_slug(base: str) -> str:
    """A slug that nobody has at this moment: `base`, `base-2`, …, and a random one after a few."""
    candidates = [base, *(f"{base}-{number}" for number in range(2, 10))]
    taken = set(Pipeline.objects.live().filter(pipeline_id__in=candidates).values_list("pipeline_id", flat=True))
    return next((slug for slug in candidates if slug not in taken), f"{base}-{uuid.uuid4().hex[:8]}")


def _user_id(user: object) -> Any:
    """The key of whoever did it; None for local mode's administrator, who is no row."""
    return user.pk if isinstance(user, AbstractBaseUser) else None


def _check_seen(pipeline: Pipeline, seen: Collection[int] | None) -> None:
    if seen is not None and pipeline.version not in seen:
        raise PreconditionFailed(f"The pipeline was changed by somebody else and is at version {pipeline.version} now; read it again.")


def _not_found() -> NotFound:
    return NotFound("There is no such pipeline.")


def _taken(slug: str) -> Conflict:
    return Conflict(f"There is a pipeline '{slug}' already; choose another pipeline_id, or change that one.")
