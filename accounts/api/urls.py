"""Routes of the API about accounts. No trailing slashes."""

from django.urls import path

from accounts.api import login, tokens, users

urlpatterns = [
    path("auth/login", login.LoginView.as_view(), name="api-login"),
    path("auth/logout", login.LogoutView.as_view(), name="api-logout"),
    path("auth/me", login.MeView.as_view(), name="me"),
    path("auth/me/permissions", login.PermissionsView.as_view(), name="my-permissions"),
    path("auth/password", login.PasswordView.as_view(), name="own-password"),
    path("auth/setup", login.SetupView.as_view(), name="setup"),
    path("auth/tokens", tokens.TokensView.as_view(), name="tokens"),
    path("auth/tokens/<str:token_id>", tokens.TokenView.as_view(), name="token"),
    path("roles", users.RolesView.as_view(), name="roles"),
    path("users", users.UsersView.as_view(), name="users"),
    path("users/<str:user_id>", users.UserView.as_view(), name="user"),
]
