from django.urls import path, re_path

from pipelines.api import connections, variables, views, webhooks

urlpatterns = [
    path("connection-types", connections.ConnectionTypesView.as_view()),
    path("connections", connections.ConnectionsView.as_view()),
    path("connections/test", connections.DraftTestView.as_view()),
    path("connections/<str:conn_id>", connections.ConnectionView.as_view()),
    path("connections/<str:conn_id>/test", connections.ConnectionTestView.as_view()),
    path("connections/<str:conn_id>/used-by", connections.ConnectionUsersView.as_view()),
    path("variables", variables.VariablesView.as_view()),
    path("variables/<str:key>", variables.VariableView.as_view()),
    path("variables/<str:key>/used-by", variables.VariableUsersView.as_view()),
    path("node-types", views.NodeTypeList.as_view()),
    path("pipelines", views.PipelineList.as_view()),
    path("pipelines/validate", views.DraftValidate.as_view()),
    path("pipelines/import", views.PipelineImport.as_view()),
    path("pipelines/dependency-graph", views.DependencyGraph.as_view()),
    path("pipelines/<str:pipeline_id>", views.PipelineDetail.as_view()),
    path("pipelines/<str:pipeline_id>/validate", views.PipelineValidate.as_view()),
    path("pipelines/<str:pipeline_id>/versions", views.VersionList.as_view()),
    re_path(r"^pipelines/(?P<pipeline_id>[^/]+)/versions/(?P<number>[0-9]{1,9})$", views.VersionDetail.as_view()),
    path("pipelines/<str:pipeline_id>/rollback", views.PipelineRollback.as_view()),
    path("pipelines/<str:pipeline_id>/clone", views.PipelineClone.as_view()),
    path("pipelines/<str:pipeline_id>/export", views.PipelineExport.as_view()),
    path("pipelines/<str:pipeline_id>/webhook-token", webhooks.WebhookTokenView.as_view()),
]
