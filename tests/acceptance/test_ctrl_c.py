"""What Ctrl-C leaves behind."""

from __future__ import annotations

from console.terminal import processes
from tests.support.demo_platform import Platform


def test_ctrl_c_leaves_no_process_and_no_port(ended_platform: Platform) -> None:
    assert processes.of_platform(ended_platform.settings) == []
    s = ended_platform.settings
    ports = (s.ledger_port, s.witness_port, s.gateway_port, s.console_port, s.ray_port, s.ray_dashboard_port)
    assert [port for port in ports if processes.listening(s.host, port)] == []
