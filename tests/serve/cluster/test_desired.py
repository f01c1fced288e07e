"""The desired state of each deployment: kept in a file until it is removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lineage.errors import UnavailableError
from lineage.settings import Settings
from serve.cluster.desired import ORDER, Deployment, desired_deployment, forget_desired, save_desired


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, gateway_replicas=2)


def _parts(deployment: Deployment, settings: Settings) -> dict[str, dict[str, Any]]:
    (application,) = deployment.application(settings)["applications"]
    return {part["name"]: part for part in application["deployments"]}


def test_without_a_wish_it_is_what_the_settings_say(settings: Settings) -> None:
    assert desired_deployment(settings) == Deployment(2)
    assert _parts(desired_deployment(settings), settings)["Gateway"]["num_replicas"] == 2


def test_a_wish_is_kept_until_it_is_forgotten(settings: Settings) -> None:
    wished = Deployment(3).renewed("Gateway")
    save_desired(settings, wished)
    assert desired_deployment(settings) == wished
    forget_desired(settings)
    forget_desired(settings)
    assert desired_deployment(settings) == Deployment(2)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"copies": 3}', b"{}"])
def test_a_wish_that_cannot_be_read_is_not_guessed(settings: Settings, content: bytes) -> None:
    save_desired(settings, Deployment(3))
    (settings.run / "deployment.json").write_bytes(content)
    with pytest.raises(UnavailableError, match=r"deployment\.json cannot be read .* delete it"):
        desired_deployment(settings)


@pytest.mark.parametrize("name", ORDER)
def test_renewing_changes_one_deployment_and_not_the_application(settings: Settings, name: str) -> None:
    before, after = Deployment(2), Deployment(2).renewed(name)
    assert after.renewed(name).generations == {name: 2}
    old, new = _parts(before, settings), _parts(after, settings)
    assert {part for part in ORDER if old[part] != new[part]} == {name}
    # These are what Ray builds the application anew for.
    (one,), (other,) = (deployment.application(settings)["applications"] for deployment in (before, after))
    built = ("import_path", "runtime_env", "args")
    assert [one.get(key) for key in built] == [other.get(key) for key in built] == ["serve.app:app", None, None]


def test_a_new_one_is_up_before_the_old_one_goes(settings: Settings) -> None:
    assert all(part["max_surge_percent"] > 0 for part in _parts(Deployment(2), settings).values())


def test_deployed_classes_are_kept_by_name() -> None:
    from ray import cloudpickle

    from serve.app import app

    deployed = [app, *app._bound_deployment.init_args]
    kept = [cloudpickle.dumps(one._bound_deployment.func_or_class) for one in deployed]
    assert [len(content) < 100 for content in kept] == [True] * len(ORDER)
