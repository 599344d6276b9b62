"""Pipelines and their immutable versions."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from brokoli_site.common.fields import DocumentField
from brokoli_site.common.ids import new_id


class PipelineQuerySet(models.QuerySet["Pipeline"]):
    def live(self) -> "PipelineQuerySet":
        """Those that have not been deleted."""
        return self.filter(deleted_at__isnull=True)


class Pipeline(models.Model):
    """A named DAG. What it does is in its versions; the columns here are copies of the current one's, for listing and search."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    pipeline_id = models.SlugField(max_length=100, help_text="Readable name for programs, unique among the pipelines that exist.")
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True, default="")
    enabled = models.BooleanField(default=True)
    schedule = models.CharField(max_length=200, blank=True, default="")
    schedule_timezone = models.CharField(max_length=64, blank=True, default="UTC")
    tags = models.JSONField(default=list)
    version = models.PositiveIntegerField(default=1, help_text="Number of the current version.")
    node_count = models.PositiveIntegerField(default=0)
    max_active_runs = models.PositiveIntegerField(null=True, blank=True, help_text="Runs that execute at the same time. Empty: any number.")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    # A deleted pipeline keeps its runs until they are purged: history that somebody looked at does not vanish under them.
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[PipelineQuerySet] = PipelineQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = (models.UniqueConstraint(fields=["pipeline_id"], condition=Q(deleted_at__isnull=True), name="pipeline_slug_unique"),)
        indexes = (
            models.Index(fields=["-created_at", "-id"], condition=Q(deleted_at__isnull=True), name="pipeline_live_newest"),
            models.Index(fields=["name"], name="pipeline_name"),
        )
        # Rights are named as the API names them: `pipelines.run` is Django's app label and codename.
        permissions = (
            ("view", "Can see pipelines"),
            ("create", "Can create pipelines"),
            ("edit", "Can change pipelines"),
            ("delete", "Can delete pipelines"),
            ("run", "Can run pipelines"),
            ("export", "Can export pipelines"),
        )

    def __str__(self) -> str:
        return self.name


class PipelineVersion(models.Model):
    """One saved state of a pipeline, never changed afterwards. `document` is the whole definition, unknown keys included."""

    id = models.BigAutoField(primary_key=True)
    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    document = DocumentField()
    comment = models.CharField(max_length=200, blank=True, default="")
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        ordering = ("-number",)
        constraints = (models.UniqueConstraint(fields=["pipeline", "number"], name="pipeline_version_unique"),)

    def __str__(self) -> str:
        return f"{self.pipeline_id} v{self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None and not kwargs.get("force_insert"):
            raise TypeError("a pipeline version is immutable; save a new one")
        super().save(*args, **kwargs)


class PipelineDependency(models.Model):
    """One rule of a pipeline's current version: what it needs of another. Written with the version, so that ends find who waits."""

    id = models.BigAutoField(primary_key=True)
    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="dependencies", db_index=False)
    upstream = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="dependents", db_index=False)
    state = models.CharField(max_length=10)
    within_seconds = models.PositiveIntegerField(null=True, blank=True)
    mode = models.CharField(max_length=10)

    class Meta:
        ordering = ("id",)
        constraints = (
            models.UniqueConstraint(fields=["pipeline", "upstream"], name="pipeline_dependency_unique"),
            models.CheckConstraint(condition=~Q(pipeline=models.F("upstream")), name="pipeline_dependency_on_another"),
            models.CheckConstraint(condition=Q(state__in=["succeeded", "completed", "failed"]), name="pipeline_dependency_state_known"),
            models.CheckConstraint(condition=Q(mode__in=["gate", "trigger"]), name="pipeline_dependency_mode_known"),
        )
        indexes = (models.Index(fields=["upstream", "mode"], name="pipeline_dependency_upstream"),)

    def __str__(self) -> str:
        return f"{self.pipeline_id} on {self.upstream_id}"


class Variable(models.Model):
    """A named value that configs refer to as `${var.key}`. A secret one is sealed for its row: see `common.secrets`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    key = models.CharField(max_length=100, unique=True)
    type = models.CharField(max_length=10)
    value = models.TextField(help_text="JSON; of a secret, the sealed text.")
    description = models.TextField(blank=True, default="")
    version = models.PositiveIntegerField(default=1, help_text="Number of its changes: whoever changes it says which one was seen.")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ("key",)
        constraints = (
            models.CheckConstraint(condition=Q(type__in=["string", "number", "boolean", "json", "secret"]), name="variable_type_known"),
            # Whatever a program of ours gets wrong, a secret is not stored in the open.
            models.CheckConstraint(condition=~Q(type="secret") | Q(value__startswith="k1:"), name="variable_secret_sealed"),
        )

    def __str__(self) -> str:
        return self.key

    @property
    def identity(self) -> str:
        """What its secret is sealed for."""
        return f"variable {self.id}"


class Connection(models.Model):
    """A named server or store with its credentials. What the fields mean is up to its type: see `connection_types.py`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    conn_id = models.CharField(max_length=100, unique=True)
    type = models.CharField(max_length=40)
    description = models.TextField(blank=True, default="")
    host = models.CharField(max_length=500, blank=True, default="")
    port = models.PositiveIntegerField(null=True, blank=True)
    schema = models.CharField(max_length=500, blank=True, default="", help_text="Database, bucket or base path, as its type says.")
    login = models.CharField(max_length=200, blank=True, default="")
    extra = DocumentField(default=dict, help_text="Options that are no secrets.")
    secrets = models.TextField(blank=True, default="", help_text="Sealed JSON: the password, and options that are secrets.")
    version = models.PositiveIntegerField(default=1, help_text="Number of its changes: whoever changes it says which one was seen.")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ("conn_id",)
        constraints = (
            models.CheckConstraint(condition=Q(port__isnull=True) | Q(port__range=(1, 65535)), name="connection_port_valid"),
            models.CheckConstraint(condition=Q(secrets="") | Q(secrets__startswith="k1:"), name="connection_secrets_sealed"),
        )

    def __str__(self) -> str:
        return self.conn_id

    @property
    def identity(self) -> str:
        """What its secrets are sealed for."""
        return f"connection {self.id}"


class WebhookToken(models.Model):
    """What a webhook of a pipeline proves that it knows. Sealed and not hashed, because signatures are checked with it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    pipeline = models.OneToOneField(Pipeline, on_delete=models.CASCADE, related_name="webhook")
    sealed = models.TextField(help_text="The token, sealed.")
    created_at = models.DateTimeField()

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(sealed__startswith="k1:"), name="webhook_token_sealed"),)

    def __str__(self) -> str:
        return str(self.pipeline_id)

    @property
    def identity(self) -> str:
        """What the token is sealed for."""
        return f"webhook of pipeline {self.pipeline_id}"


class PipelineUse(models.Model):
    """A variable or connection that a pipeline's current version names. Written with the version, so that its users are found."""

    id = models.BigAutoField(primary_key=True)
    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="uses", db_index=False)
    kind = models.CharField(max_length=10)
    name = models.CharField(max_length=200)

    class Meta:
        ordering = ("id",)
        constraints = (
            models.UniqueConstraint(fields=["pipeline", "kind", "name"], name="pipeline_use_unique"),
            models.CheckConstraint(condition=Q(kind__in=["variable", "connection"]), name="pipeline_use_kind_known"),
        )
        indexes = (models.Index(fields=["kind", "name"], name="pipeline_use_name"),)

    def __str__(self) -> str:
        return f"{self.pipeline_id} uses {self.kind} {self.name}"


class PipelineLineage(models.Model):
    """What flows between the assets of a pipeline's current version: see `assets/graph.py`. Written with the version, or caught up with."""

    pipeline = models.OneToOneField(Pipeline, primary_key=True, on_delete=models.CASCADE, related_name="lineage")
    version = models.PositiveIntegerField(help_text="Of the pipeline, that this is told of.")
    revision = models.PositiveSmallIntegerField(help_text="Of the code that told it.")
    stale = models.BooleanField(default=False, help_text="A connection has changed since.")
    graph = models.TextField()

    def __str__(self) -> str:
        return f"{self.pipeline_id} v{self.version}"


class PipelineAsset(models.Model):
    """An asset, a connection or a variable of a pipeline's lineage, by which those are found that share it."""

    id = models.BigAutoField(primary_key=True)
    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="assets", db_index=False)
    asset = models.CharField(max_length=400)

    class Meta:
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=["pipeline", "asset"], name="pipeline_asset_unique"),)
        indexes = (models.Index(fields=["asset", "pipeline"], name="pipeline_asset_asset"),)

    def __str__(self) -> str:
        return self.asset


class SearchTerm(models.Model):
    """What a pipeline, or a node of its current version, is found by. Written with the version: see `search_terms.py`."""

    id = models.BigAutoField(primary_key=True)
    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="+", db_index=False)
    kind = models.CharField(max_length=10)
    node_id = models.CharField(max_length=200, blank=True, default="", help_text="Empty: the pipeline itself.")
    name = models.CharField(max_length=200)
    type = models.CharField(max_length=100, blank=True, default="", help_text="Of the node.")
    folded = models.TextField(help_text="The texts, without case.")

    class Meta:
        ordering = ("id",)
        constraints = (
            models.UniqueConstraint(fields=["pipeline", "node_id"], name="search_term_unique"),
            models.CheckConstraint(condition=Q(kind="pipeline", node_id="") | (Q(kind="node") & ~Q(node_id="")), name="search_term_kind_known"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"
