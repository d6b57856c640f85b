"""Clusters that start once: Spark's local-cluster, Standalone with two workers, Spark Connect.

The driver programs are scripts in ``programs/``, run as a user would run them: a classic and a
Connect session do not fit into one process, and a driver that is killed cannot be the test.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from site_of_processes import Site, Standalone, Target, free_ports, wait_until

LOCAL_CLUSTER = "local-cluster[2,1,1024]"
CONNECTS_CLUSTER = "local-cluster[2,2,1024]"
LEAVE_S = 20.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A place for driver programs; whatever still runs there is ended."""
    made = Site(tmp_path_factory.mktemp("site"))
    yield made
    made.close()


@pytest.fixture
def leaves_nothing_here(site: Site) -> Iterator[None]:
    """After the test, no guard, child, folder or temporary file of a run remains."""
    yield
    wait_until(lambda: not site.left_by_runs(), LEAVE_S, f"gone: {site.left_by_runs()}")


@pytest.fixture(scope="module")
def local_cluster(site: Site) -> Target:
    """Two executor processes with a core each, started by each program."""
    return Target(LOCAL_CLUSTER, site)


@pytest.fixture(scope="module")
def standalone(site: Site) -> Target:
    """A Standalone master with two workers of two cores each."""
    made = Standalone(site)
    for _ in range(2):
        made.add_worker(cores=2)
    return Target(made.url, site)


@pytest.fixture(scope="module")
def connect(site: Site) -> Target:
    """A Spark Connect server with two executors of two cores each."""
    (port,) = free_ports(1)
    script = site.root / "home" / "sbin" / "start-connect-server.sh"
    settings = {
        "spark.connect.grpc.binding.port": str(port),
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
    options = [part for item in settings.items() for part in ("--conf", "{}={}".format(*item))]
    command = ["bash", str(script), "--wait", "--master", CONNECTS_CLUSTER, *options]
    server = site.start(command)

    def listens() -> bool:
        assert server.process.poll() is None, server.tail()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, 120, "the Connect server listens")
    return Target(f"sc://127.0.0.1:{port}", site)
