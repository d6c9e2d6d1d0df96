from __future__ import annotations

import pytest

from meshkit.transports.mux.addresses import Replicas, replicas_of


@pytest.mark.parametrize(
    ("address", "replicas"),
    [
        ("127.0.0.1:50051", Replicas(frozenset({"ipv4:127.0.0.1:50051"}))),
        ("[::1]:50051", Replicas(frozenset({"ipv6:[::1]:50051"}))),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", Replicas(frozenset({"ipv4:127.0.0.1:1", "ipv4:127.0.0.1:2"}))),
        ("ipv6:[::1]:1", Replicas(frozenset({"ipv6:[::1]:1"}))),
        ("unix:/run/guard.sock", Replicas(frozenset({"unix:/run/guard.sock"}))),
        ("guard:50051", Replicas(host="guard", port=50051)),
        ("dns:guard:50051", Replicas(host="guard", port=50051)),
        ("dns:///guard.mesh:50051", Replicas(host="guard.mesh", port=50051)),
    ],
)
def test_an_address_names_its_replicas(address: str, replicas: Replicas) -> None:
    assert replicas_of(address) == replicas


@pytest.mark.parametrize(
    "address", ["guard", "dns:///guard", "dns://8.8.8.8/guard:50051", "xds:///guard", "guard:http"]
)
def test_what_only_grpc_understands_is_left_to_it(address: str) -> None:
    assert replicas_of(address) is None


async def test_a_name_stands_for_the_addresses_that_it_has_now() -> None:
    assert "ipv4:127.0.0.1:50051" in await Replicas(host="localhost", port=50051).resolve()
