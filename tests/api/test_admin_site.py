"""The admin as a newcomer meets it."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def local() -> Client:
    return Client(headers={"host": "localhost"})


def test_the_front_door_leads_to_the_admin(local: Client) -> None:
    answer = local.get("/", follow=True)

    assert answer.redirect_chain == [("/admin/", 302)]
    assert b"Brokoli" in answer.content


def test_the_local_administrator_makes_the_first_user_and_that_ends_local_mode(local: Client) -> None:
    form = {"username": "ada", "usable_password": "true", "password1": "a long pass phrase", "password2": "a long pass phrase"}

    answer = local.post("/admin/auth/user/add/", form)

    assert answer.status_code == 302, answer.content
    assert get_user_model().objects.get().username == "ada"
    assert local.get("/admin/runs/run/").status_code == 302  # to the login
    assert local.get("/api/runs").status_code == 401
