"""Who gets what answer from which route: the table that `test_every_route.py` holds the server to, and `docs/reference/routes.md` shows.

A line is: methods, address, right, and the status that each caller gets, in the order of `CALLERS`. A route of the URL configuration that has no line
fails the test, as does a line without a route. The right is the one that the view names (`-`: none); what else a call asks for, its statuses
show. What the requests hold is in `route_world.py`: mostly what makes the call do its work, so that 403 is a matter of rights.

The table says what is declared. For all lines it holds besides: HEAD is answered like GET; OPTIONS and methods that are not declared are answered
401, 403 or 405, and never do anything; a change by a session without its CSRF token is 403; a page of another origin gets what a stranger gets.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ROLES = ("viewer", "operator", "editor", "admin")
# A stranger has no credentials; nobody has logged in and has no role; the four have that role; these may use the admin (`is_staff`). The last
# is a program with a token of an administrator that is narrowed to `TOKEN_SCOPES`; pages know no tokens.
CALLERS = ("stranger", "nobody", *ROLES, "token")
TOKEN_SCOPES = ("runs.view", "runs.cancel", "connections.test")
# Where a status means that the caller was not let in. Strangers are sent from pages to the login.
REFUSED = frozenset({401, 403})
# Answered before the URL configuration is asked, or by nobody.
BESIDE = "# Beside the routes"

TABLE = """
# Pipelines
POST     /api/pipelines/{pipeline_id}/webhook                           -                   404 404 404 404 404 404 404
GET      /api/pipelines/{pipeline_id}/deps                              pipelines.view      401 403 200 200 200 200 403
GET      /api/pipelines/{pipeline_id}/dependents                        pipelines.view      401 403 200 200 200 200 403
GET      /api/pipelines/{pipeline_id}/sla-misses                        pipelines.view      401 403 200 200 200 200 403
GET      /api/node-types                                                pipelines.view      401 403 200 200 200 200 403
GET      /api/pipelines                                                 pipelines.view      401 403 200 200 200 200 403
POST     /api/pipelines                                                 pipelines.create    401 403 403 403 201 201 403
POST     /api/pipelines/validate                                        pipelines.view      401 403 200 200 200 200 403
POST     /api/pipelines/import                                          pipelines.create    401 403 403 403 201 201 403
GET      /api/pipelines/dependency-graph                                pipelines.view      401 403 200 200 200 200 403
GET      /api/pipelines/{pipeline_id}                                   pipelines.view      401 403 200 200 200 200 403
PUT      /api/pipelines/{pipeline_id}                                   pipelines.edit      401 403 403 403 200 200 403
PATCH    /api/pipelines/{pipeline_id}                                   pipelines.edit      401 403 403 403 200 200 403
DELETE   /api/pipelines/{pipeline_id}                                   pipelines.delete    401 403 403 403 204 204 403
GET      /api/pipelines/{pipeline_id}/validate                          pipelines.view      401 403 200 200 200 200 403
GET      /api/pipelines/{pipeline_id}/versions                          pipelines.view      401 403 200 200 200 200 403
GET      /api/pipelines/{pipeline_id}/versions/{number}                 pipelines.view      401 403 200 200 200 200 403
POST     /api/pipelines/{pipeline_id}/rollback                          pipelines.edit      401 403 403 403 200 200 403
POST     /api/pipelines/{pipeline_id}/clone                             pipelines.create    401 403 403 403 201 201 403
GET      /api/pipelines/{pipeline_id}/export                            pipelines.export    401 403 403 403 200 200 403
GET      /api/pipelines/{pipeline_id}/webhook-token                     pipelines.view      401 403 200 200 200 200 403
POST     /api/pipelines/{pipeline_id}/webhook-token                     pipelines.edit      401 403 403 403 201 201 403
DELETE   /api/pipelines/{pipeline_id}/webhook-token                     pipelines.edit      401 403 403 403 204 204 403

# Runs
GET      /api/runs/calendar                                             runs.view           401 403 200 200 200 200 200
GET      /api/workers                                                   runs.view           401 403 200 200 200 200 200
POST     /api/pipelines/dry-run                                         pipelines.run       401 403 403 403 422 422 403
POST     /api/pipelines/{pipeline_id}/dry-run                           pipelines.run       401 403 403 400 400 400 403
POST     /api/pipelines/{pipeline_id}/run                               pipelines.run       401 403 403 202 202 202 403
GET      /api/pipelines/{pipeline_id}/runs                              runs.view           401 403 200 200 200 200 200
POST     /api/pipelines/{pipeline_id}/backfill                          runs.backfill       401 403 403 403 202 202 403
GET      /api/pipelines/{pipeline_id}/backfills                         runs.view           401 403 200 200 200 200 200
GET      /api/backfills/{backfill_id}                                   runs.view           401 403 200 200 200 200 200
POST     /api/backfills/{backfill_id}/cancel                            runs.cancel         401 403 403 409 409 409 409
GET      /api/pools                                                     pipelines.view      401 403 200 200 200 200 403
PUT      /api/pools/{name}                                              pipelines.edit      401 403 403 403 200 200 403
DELETE   /api/pools/{name}                                              pipelines.edit      401 403 403 403 204 204 403
GET      /api/ws                                                        runs.view           401 403 426 426 426 426 426
GET      /api/runs                                                      runs.view           401 403 200 200 200 200 200
GET      /api/runs/{run_id}                                             runs.view           401 403 200 200 200 200 200
POST     /api/runs/{run_id}/cancel                                      runs.cancel         401 403 403 200 200 200 200
POST     /api/runs/{run_id}/resume                                      runs.resume         401 403 403 202 202 202 403
GET      /api/runs/{run_id}/logs                                        runs.view           401 403 200 200 200 200 200
GET      /api/runs/{run_id}/logs/export                                 runs.view           401 403 200 200 200 200 200
GET      /api/runs/{run_id}/notifications                               runs.view           401 403 200 200 200 200 200
GET      /api/runs/{run_id}/nodes/{node_id}/preview                     runs.view           401 403 200 200 200 200 200
GET      /api/runs/{run_id}/nodes/{node_id}/output                      runs.view           401 403 200 200 200 200 200
GET      /api/runs/{run_id}/nodes/{node_id}/profile                     runs.view           401 403 200 200 200 200 200
WS       /api/ws                                                        runs.view           401 403 101 101 101 101 101

# Connections and variables
GET      /api/connection-types                                          connections.view    401 403 200 200 200 200 403
GET      /api/connections                                               connections.view    401 403 200 200 200 200 403
POST     /api/connections                                               connections.create  401 403 403 403 201 201 403
POST     /api/connections/test                                          connections.test    401 403 403 403 200 200 403
GET      /api/connections/{conn_id}                                     connections.view    401 403 200 200 200 200 403
PUT      /api/connections/{conn_id}                                     connections.edit    401 403 403 403 200 200 403
PATCH    /api/connections/{conn_id}                                     connections.edit    401 403 403 403 200 200 403
DELETE   /api/connections/{conn_id}                                     connections.delete  401 403 403 403 204 204 403
POST     /api/connections/{conn_id}/test                                connections.test    401 403 403 200 200 200 200
GET      /api/connections/{conn_id}/used-by                             connections.view    401 403 200 200 200 200 403
GET      /api/variables                                                 variables.view      401 403 200 200 200 200 403
POST     /api/variables                                                 variables.create    401 403 403 403 201 201 403
GET      /api/variables/{key}                                           variables.view      401 403 200 200 200 200 403
PUT      /api/variables/{key}                                           variables.edit      401 403 403 403 200 200 403
PATCH    /api/variables/{key}                                           variables.edit      401 403 403 403 200 200 403
DELETE   /api/variables/{key}                                           variables.delete    401 403 403 403 204 204 403
GET      /api/variables/{key}/used-by                                   variables.view      401 403 200 200 200 200 403

# Accounts
POST     /api/auth/login                                                -                   401 401 401 401 401 401 401
POST     /api/auth/logout                                               -                   401 204 204 204 204 204 204
GET      /api/auth/me                                                   -                   401 200 200 200 200 200 200
GET      /api/auth/me/permissions                                       -                   401 200 200 200 200 200 200
POST     /api/auth/password                                             -                   401 400 400 400 400 400 403
GET      /api/auth/setup                                                -                   200 200 200 200 200 200 200
POST     /api/auth/setup                                                settings.manage_users 401 403 403 403 403 409 403
GET      /api/auth/tokens                                               -                   401 200 200 200 200 200 200
POST     /api/auth/tokens                                               -                   401 201 201 201 201 201 403
DELETE   /api/auth/tokens/{token_id}                                    -                   401 404 404 404 404 404 403
GET      /api/roles                                                     settings.view       401 403 200 200 200 200 403
GET      /api/users                                                     settings.manage_users 401 403 403 403 403 200 403
POST     /api/users                                                     settings.manage_users 401 403 403 403 403 201 403
GET      /api/users/{user_id}                                           settings.manage_users 401 403 403 403 403 200 403
PATCH    /api/users/{user_id}                                           settings.manage_users 401 403 403 403 403 200 403
DELETE   /api/users/{user_id}                                           settings.manage_users 401 403 403 403 403 204 403

# The whole
GET      /api/schema                                                    -                   401 200 200 200 200 200 200
GET      /api/docs                                                      -                   401 200 200 200 200 200 200
GET      /api/audit                                                     audit.view          401 403 200 200 200 200 403
GET      /api/audit/export                                              audit.export        401 403 403 403 403 200 403
GET      /api/capabilities                                              -                   401 200 200 200 200 200 200
GET      /api/dashboard                                                 runs.view           401 403 200 200 200 200 200
GET      /api/lineage                                                   pipelines.view      401 403 200 200 200 200 403
GET      /api/lineage/columns                                           runs.view           401 403 200 200 200 200 200
GET      /api/scheduler/status                                          pipelines.view      401 403 200 200 200 200 403
POST     /api/schedules/preview                                         pipelines.view      401 403 200 200 200 200 403
GET      /api/search                                                    pipelines.view      401 403 200 200 200 200 403
GET      /api/system/info                                               runs.view           401 403 200 200 200 200 200
POST     /api/system/purge                                              settings.edit       401 403 403 403 403 200 403

# Pages and probes
GET      /health                                                        -                   200 200 200 200 200 200 200
GET      /metrics                                                       runs.view           401 403 200 200 200 200 200
GET,POST /login                                                         -                   200 302 302 302 302 302 200
PUT      /login                                                         -                   200 302 302 302 302 302 200
GET      /logout                                                        -                   405 405 405 405 405 405 405
POST     /logout                                                        -                   200 200 200 200 200 200 200
GET,POST /                                                              -                   302 302 302 302 302 302 302

# The admin: its frame
GET,POST /admin/                                                        -                   302 200 200 200 200 200 302
GET      /admin/login/                                                  -                   200 302 302 302 302 302 200
POST     /admin/login/                                                  -                   200 200 200 200 200 200 200
GET      /admin/logout/                                                 -                   302 405 405 405 405 405 302
POST     /admin/logout/                                                 -                   302 200 200 200 200 200 302
GET,POST /admin/password_change/                                        -                   302 200 200 200 200 200 302
GET      /admin/password_change/done/                                   -                   302 200 200 200 200 200 302
POST     /admin/password_change/done/                                   -                   302 405 405 405 405 405 302
GET      /admin/autocomplete/                                           -                   302 403 403 403 403 403 302
POST     /admin/autocomplete/                                           -                   302 405 405 405 405 405 302
GET      /admin/jsi18n/                                                 -                   302 200 200 200 200 200 302
POST     /admin/jsi18n/                                                 -                   302 405 405 405 405 405 302
GET,POST /admin/r/{content_type_id}/{object_id}/                        -                   302 404 404 404 404 404 302
GET,POST /admin/{app_label}/                                            -                   302 404 200 200 200 200 302
GET,POST /admin/{url}                                                   -                   302 404 404 404 404 404 302

# The admin: pipelines.pipeline
GET,POST /admin/pipelines/pipeline/                                     -                   302 403 200 200 200 200 302
GET,POST /admin/pipelines/pipeline/add/                                 -                   302 403 403 403 403 403 302
GET,POST /admin/pipelines/pipeline/{object_id}/history/                 -                   302 403 200 200 200 200 302
GET,POST /admin/pipelines/pipeline/{object_id}/delete/                  -                   302 403 403 403 403 403 302
GET      /admin/pipelines/pipeline/{object_id}/change/                  -                   302 403 200 200 200 200 302
POST     /admin/pipelines/pipeline/{object_id}/change/                  -                   302 403 403 403 403 403 302
GET,POST /admin/pipelines/pipeline/{object_id}/                         -                   302 302 302 302 302 302 302

# The admin: pipelines.pipelineversion
GET,POST /admin/pipelines/pipelineversion/                              -                   302 403 200 200 200 200 302
GET,POST /admin/pipelines/pipelineversion/add/                          -                   302 403 403 403 403 403 302
GET,POST /admin/pipelines/pipelineversion/{object_id}/history/          -                   302 403 200 200 200 200 302
GET,POST /admin/pipelines/pipelineversion/{object_id}/delete/           -                   302 403 403 403 403 403 302
GET      /admin/pipelines/pipelineversion/{object_id}/change/           -                   302 403 200 200 200 200 302
POST     /admin/pipelines/pipelineversion/{object_id}/change/           -                   302 403 403 403 403 403 302
GET,POST /admin/pipelines/pipelineversion/{object_id}/                  -                   302 302 302 302 302 302 302

# The admin: pipelines.connection
GET,POST /admin/pipelines/connection/                                   -                   302 403 200 200 200 200 302
GET,POST /admin/pipelines/connection/add/                               -                   302 403 403 403 200 200 302
GET,POST /admin/pipelines/connection/{object_id}/history/               -                   302 403 200 200 200 200 302
GET,POST /admin/pipelines/connection/{object_id}/delete/                -                   302 403 403 403 200 200 302
GET      /admin/pipelines/connection/{object_id}/change/                -                   302 403 200 200 200 200 302
POST     /admin/pipelines/connection/{object_id}/change/                -                   302 403 403 403 200 200 302
GET,POST /admin/pipelines/connection/{object_id}/                       -                   302 302 302 302 302 302 302

# The admin: pipelines.variable
GET,POST /admin/pipelines/variable/                                     -                   302 403 200 200 200 200 302
GET,POST /admin/pipelines/variable/add/                                 -                   302 403 403 403 200 200 302
GET,POST /admin/pipelines/variable/{object_id}/history/                 -                   302 403 200 200 200 200 302
GET,POST /admin/pipelines/variable/{object_id}/delete/                  -                   302 403 403 403 200 200 302
GET      /admin/pipelines/variable/{object_id}/change/                  -                   302 403 200 200 200 200 302
POST     /admin/pipelines/variable/{object_id}/change/                  -                   302 403 403 403 200 200 302
GET,POST /admin/pipelines/variable/{object_id}/                         -                   302 302 302 302 302 302 302

# The admin: runs.backfill
GET,POST /admin/runs/backfill/                                          -                   302 403 200 200 200 200 302
GET,POST /admin/runs/backfill/add/                                      -                   302 403 403 403 403 403 302
GET,POST /admin/runs/backfill/{object_id}/history/                      -                   302 403 200 200 200 200 302
GET,POST /admin/runs/backfill/{object_id}/delete/                       -                   302 403 403 403 403 403 302
GET      /admin/runs/backfill/{object_id}/change/                       -                   302 403 200 200 200 200 302
POST     /admin/runs/backfill/{object_id}/change/                       -                   302 403 403 403 403 403 302
GET,POST /admin/runs/backfill/{object_id}/                              -                   302 302 302 302 302 302 302

# The admin: runs.notification
GET,POST /admin/runs/notification/                                      -                   302 403 200 200 200 200 302
GET,POST /admin/runs/notification/add/                                  -                   302 403 403 403 403 403 302
GET,POST /admin/runs/notification/{object_id}/history/                  -                   302 403 200 200 200 200 302
GET,POST /admin/runs/notification/{object_id}/delete/                   -                   302 403 403 403 403 403 302
GET      /admin/runs/notification/{object_id}/change/                   -                   302 403 200 200 200 200 302
POST     /admin/runs/notification/{object_id}/change/                   -                   302 403 403 403 403 403 302
GET,POST /admin/runs/notification/{object_id}/                          -                   302 302 302 302 302 302 302

# The admin: runs.noderun
GET,POST /admin/runs/noderun/                                           -                   302 403 200 200 200 200 302
GET,POST /admin/runs/noderun/add/                                       -                   302 403 403 403 403 403 302
GET,POST /admin/runs/noderun/{object_id}/history/                       -                   302 403 200 200 200 200 302
GET,POST /admin/runs/noderun/{object_id}/delete/                        -                   302 403 403 403 403 403 302
GET      /admin/runs/noderun/{object_id}/change/                        -                   302 403 200 200 200 200 302
POST     /admin/runs/noderun/{object_id}/change/                        -                   302 403 403 403 403 403 302
GET,POST /admin/runs/noderun/{object_id}/                               -                   302 302 302 302 302 302 302

# The admin: runs.nodeoutput
GET,POST /admin/runs/nodeoutput/                                        -                   302 403 200 200 200 200 302
GET,POST /admin/runs/nodeoutput/add/                                    -                   302 403 403 403 403 403 302
GET,POST /admin/runs/nodeoutput/{object_id}/history/                    -                   302 403 200 200 200 200 302
GET,POST /admin/runs/nodeoutput/{object_id}/delete/                     -                   302 403 403 403 403 403 302
GET      /admin/runs/nodeoutput/{object_id}/change/                     -                   302 403 200 200 200 200 302
POST     /admin/runs/nodeoutput/{object_id}/change/                     -                   302 403 403 403 403 403 302
GET,POST /admin/runs/nodeoutput/{object_id}/                            -                   302 302 302 302 302 302 302

# The admin: runs.logentry
GET,POST /admin/runs/logentry/                                          -                   302 403 200 200 200 200 302
GET,POST /admin/runs/logentry/add/                                      -                   302 403 403 403 403 403 302
GET,POST /admin/runs/logentry/{object_id}/history/                      -                   302 403 200 200 200 200 302
GET,POST /admin/runs/logentry/{object_id}/delete/                       -                   302 403 403 403 403 403 302
GET      /admin/runs/logentry/{object_id}/change/                       -                   302 403 200 200 200 200 302
POST     /admin/runs/logentry/{object_id}/change/                       -                   302 403 403 403 403 403 302
GET,POST /admin/runs/logentry/{object_id}/                              -                   302 302 302 302 302 302 302

# The admin: runs.worker
GET,POST /admin/runs/worker/                                            -                   302 403 200 200 200 200 302
GET,POST /admin/runs/worker/add/                                        -                   302 403 403 403 403 403 302
GET,POST /admin/runs/worker/{object_id}/history/                        -                   302 403 200 200 200 200 302
GET,POST /admin/runs/worker/{object_id}/delete/                         -                   302 403 403 403 403 403 302
GET      /admin/runs/worker/{object_id}/change/                         -                   302 403 200 200 200 200 302
POST     /admin/runs/worker/{object_id}/change/                         -                   302 403 403 403 403 403 302
GET,POST /admin/runs/worker/{object_id}/                                -                   302 302 302 302 302 302 302

# The admin: runs.pool
GET,POST /admin/runs/pool/                                              -                   302 403 200 200 200 200 302
GET,POST /admin/runs/pool/add/                                          -                   302 403 403 403 200 200 302
GET,POST /admin/runs/pool/{object_id}/history/                          -                   302 403 200 200 200 200 302
GET,POST /admin/runs/pool/{object_id}/delete/                           -                   302 403 403 403 200 200 302
GET      /admin/runs/pool/{object_id}/change/                           -                   302 403 200 200 200 200 302
POST     /admin/runs/pool/{object_id}/change/                           -                   302 403 403 403 200 200 302
GET,POST /admin/runs/pool/{object_id}/                                  -                   302 302 302 302 302 302 302

# The admin: runs.poolticket
GET,POST /admin/runs/poolticket/                                        -                   302 403 200 200 200 200 302
GET,POST /admin/runs/poolticket/add/                                    -                   302 403 403 403 403 403 302
GET,POST /admin/runs/poolticket/{object_id}/history/                    -                   302 403 200 200 200 200 302
GET,POST /admin/runs/poolticket/{object_id}/delete/                     -                   302 403 403 403 403 403 302
GET      /admin/runs/poolticket/{object_id}/change/                     -                   302 403 200 200 200 200 302
POST     /admin/runs/poolticket/{object_id}/change/                     -                   302 403 403 403 403 403 302
GET,POST /admin/runs/poolticket/{object_id}/                            -                   302 302 302 302 302 302 302

# The admin: runs.run
GET      /admin/runs/run/{run_id}/cancel/                               -                   302 405 405 405 405 405 302
POST     /admin/runs/run/{run_id}/cancel/                               -                   302 403 403 302 302 302 302
GET      /admin/runs/run/{run_id}/resume/                               -                   302 405 405 405 405 405 302
POST     /admin/runs/run/{run_id}/resume/                               -                   302 403 403 302 302 302 302
GET,POST /admin/runs/run/                                               -                   302 403 200 200 200 200 302
GET,POST /admin/runs/run/add/                                           -                   302 403 403 403 403 403 302
GET,POST /admin/runs/run/{object_id}/history/                           -                   302 403 200 200 200 200 302
GET,POST /admin/runs/run/{object_id}/delete/                            -                   302 403 403 403 403 403 302
GET      /admin/runs/run/{object_id}/change/                            -                   302 403 200 200 200 200 302
POST     /admin/runs/run/{object_id}/change/                            -                   302 403 403 403 403 403 302
GET,POST /admin/runs/run/{object_id}/                                   -                   302 302 302 302 302 302 302

# The admin: runs.schedulestate
GET,POST /admin/runs/schedulestate/                                     -                   302 403 200 200 200 200 302
GET,POST /admin/runs/schedulestate/add/                                 -                   302 403 403 403 403 403 302
GET,POST /admin/runs/schedulestate/{object_id}/history/                 -                   302 403 200 200 200 200 302
GET,POST /admin/runs/schedulestate/{object_id}/delete/                  -                   302 403 403 403 403 403 302
GET      /admin/runs/schedulestate/{object_id}/change/                  -                   302 403 200 200 200 200 302
POST     /admin/runs/schedulestate/{object_id}/change/                  -                   302 403 403 403 403 403 302
GET,POST /admin/runs/schedulestate/{object_id}/                         -                   302 302 302 302 302 302 302

# The admin: runs.slamiss
GET,POST /admin/runs/slamiss/                                           -                   302 403 200 200 200 200 302
GET,POST /admin/runs/slamiss/add/                                       -                   302 403 403 403 403 403 302
GET,POST /admin/runs/slamiss/{object_id}/history/                       -                   302 403 200 200 200 200 302
GET,POST /admin/runs/slamiss/{object_id}/delete/                        -                   302 403 403 403 403 403 302
GET      /admin/runs/slamiss/{object_id}/change/                        -                   302 403 200 200 200 200 302
POST     /admin/runs/slamiss/{object_id}/change/                        -                   302 403 403 403 403 403 302
GET,POST /admin/runs/slamiss/{object_id}/                               -                   302 302 302 302 302 302 302

# The admin: system.auditentry
GET,POST /admin/system/auditentry/                                      -                   302 403 200 200 200 200 302
GET,POST /admin/system/auditentry/add/                                  -                   302 403 403 403 403 403 302
GET,POST /admin/system/auditentry/{object_id}/history/                  -                   302 403 200 200 200 200 302
GET,POST /admin/system/auditentry/{object_id}/delete/                   -                   302 403 403 403 403 403 302
GET      /admin/system/auditentry/{object_id}/change/                   -                   302 403 200 200 200 200 302
POST     /admin/system/auditentry/{object_id}/change/                   -                   302 403 403 403 403 403 302
GET,POST /admin/system/auditentry/{object_id}/                          -                   302 302 302 302 302 302 302

# The admin: auth.user
GET,POST /admin/auth/user/{id}/password/                                -                   302 403 403 403 403 200 302
GET,POST /admin/auth/user/                                              -                   302 403 403 403 403 200 302
GET,POST /admin/auth/user/add/                                          -                   302 403 403 403 403 200 302
GET,POST /admin/auth/user/{object_id}/history/                          -                   302 403 403 403 403 200 302
GET,POST /admin/auth/user/{object_id}/delete/                           -                   302 403 403 403 403 200 302
GET,POST /admin/auth/user/{object_id}/change/                           -                   302 403 403 403 403 200 302
GET,POST /admin/auth/user/{object_id}/                                  -                   302 302 302 302 302 302 302

# The admin: auth.group
GET,POST /admin/auth/group/                                             -                   302 403 403 403 403 200 302
GET,POST /admin/auth/group/add/                                         -                   302 403 403 403 403 200 302
GET,POST /admin/auth/group/{object_id}/history/                         -                   302 403 403 403 403 200 302
GET,POST /admin/auth/group/{object_id}/delete/                          -                   302 403 403 403 403 403 302
GET      /admin/auth/group/{object_id}/change/                          -                   302 403 403 403 403 200 302
POST     /admin/auth/group/{object_id}/change/                          -                   302 403 403 403 403 403 302
GET,POST /admin/auth/group/{object_id}/                                 -                   302 302 302 302 302 302 302

# The admin: accounts.apitoken
GET,POST /admin/accounts/apitoken/                                      -                   302 403 403 403 403 200 302
GET,POST /admin/accounts/apitoken/add/                                  -                   302 403 403 403 403 403 302
GET,POST /admin/accounts/apitoken/{object_id}/history/                  -                   302 403 403 403 403 200 302
GET,POST /admin/accounts/apitoken/{object_id}/delete/                   -                   302 403 403 403 403 200 302
GET      /admin/accounts/apitoken/{object_id}/change/                   -                   302 403 403 403 403 200 302
POST     /admin/accounts/apitoken/{object_id}/change/                   -                   302 403 403 403 403 403 302
GET,POST /admin/accounts/apitoken/{object_id}/                          -                   302 302 302 302 302 302 302

# The admin: axes.accessattempt
GET,POST /admin/axes/accessattempt/                                     -                   302 403 403 403 403 200 302
GET,POST /admin/axes/accessattempt/add/                                 -                   302 403 403 403 403 403 302
GET,POST /admin/axes/accessattempt/{object_id}/history/                 -                   302 403 403 403 403 200 302
GET,POST /admin/axes/accessattempt/{object_id}/delete/                  -                   302 403 403 403 403 200 302
GET      /admin/axes/accessattempt/{object_id}/change/                  -                   302 403 403 403 403 200 302
POST     /admin/axes/accessattempt/{object_id}/change/                  -                   302 403 403 403 403 403 302
GET,POST /admin/axes/accessattempt/{object_id}/                         -                   302 302 302 302 302 302 302

# Beside the routes
GET      /livez                                                         -                   200 200 200 200 200 200 200
GET      /readyz                                                        -                   200 200 200 200 200 200 200
GET      /static/runs/admin.css                                         -                   200 200 200 200 200 200 200
GET      /static/runs/nothing.css                                       -                   404 404 404 404 404 404 404
GET      /static/../manage.py                                           -                   404 404 404 404 404 404 404
GET      /nothing                                                       -                   404 404 404 404 404 404 404
GET      /api/nothing                                                   -                   404 404 404 404 404 404 404
GET      /api/pipelines/                                                -                   404 404 404 404 404 404 404
GET      /admin                                                         -                   404 404 404 404 404 404 404
GET      /.env                                                          -                   404 404 404 404 404 404 404
"""


@dataclass(frozen=True, slots=True)
class Line:
    """What one method of one address answers, by caller. `beside`: it has no route."""

    method: str
    address: str
    right: str  # "": the view names none
    statuses: Mapping[str, int]
    section: str
    beside: bool = False

    @property
    def name(self) -> str:
        return f"{self.method} {self.address}"

    def refuses(self, caller: str) -> bool:
        """Whether the caller is not let in."""
        status = self.statuses[caller]
        return status in REFUSED or (status == 302 and caller in ("stranger", "token") and self.address.startswith("/admin/"))


def lines() -> Iterator[Line]:
    """The table, line by line and method by method. Errors: `ValueError` for a line that is none."""
    section = ""
    for row in TABLE.strip().splitlines():
        if row.startswith("#") or not row.strip():
            section = row.strip() or section
            continue
        methods, address, right, *statuses = row.split()
        found = dict(zip(CALLERS, map(int, statuses), strict=True))
        for method in methods.split(","):
            yield Line(method, address, right.removeprefix("-"), found, section.lstrip("# "), section == BESIDE)
