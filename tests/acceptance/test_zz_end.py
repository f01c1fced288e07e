"""Runs last: Ctrl-C leaves no process behind."""

from __future__ import annotations

from console.terminal import processes
from tests.support.demo_platform import Platform, end


def test_ctrl_c_leaves_no_process_and_no_port(platform: Platform) -> None:
    end(platform)
    assert processes.of_platform(platform.settings) == []
    s = platform.settings
    ports = (s.ledger_port, s.witness_port, s.gateway_port, s.console_port, s.ray_port, s.ray_dashboard_port)
    assert [port for port in ports if processes.listening(s.host, port)] == []
