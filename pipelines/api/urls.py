from django.urls import path, re_path

from pipelines.api import views

urlpatterns = [
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
]
