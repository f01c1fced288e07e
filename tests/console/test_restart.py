"""After a restart an open tab reopens its socket before any request, and must be admitted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.console_home import Home

SCRIPT = """
import sys
from starlette.testclient import TestClient
from console.server import build
from lineage.settings import Settings

with TestClient(build(Settings())) as client:
    client.cookies.set("plimsoll_session", sys.argv[1])
    from dash import get_app
    [output] = [one for one, spec in get_app().callback_map.items() if spec.get("websocket") or "live" in str(spec)]
    with client.websocket_connect("/_dash-ws-callback", headers={"origin": "http://testserver"}) as socket:
        payload = {"output": output, "outputs": [], "inputs": [], "changedPropIds": [], "state": []}
        socket.send_json({"type": "callback_request", "requestId": "1", "rendererId": "r", "payload": payload})
        told = socket.receive_json()  # several messages may come as one
        print((told if isinstance(told, list) else [told])[0]["payload"]["componentId"])
"""


def test_a_socket_may_be_the_first_thing(home: Home) -> None:
    from console.session import Sessions

    answer = home.ledger._wire.send(
        "POST", "/v1/session", json={"name": "auditor", "password": home.passwords["auditor"]}
    ).json()
    cookie, _ = Sessions(home.settings.secrets / "console.key").seal(answer)
    environment = {
        "PLIMSOLL_HOME": str(home.settings.home),
        "PLIMSOLL_LEDGER_PORT": str(home.settings.ledger_port),
        "PATH": str(Path(sys.executable).parent),
    }
    run = [sys.executable, "-W", "ignore", "-c", SCRIPT, cookie]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout.strip() == "beat", done.stderr
