import pytest

from services.router.core.addresses import is_allowed, is_loopback_host


@pytest.mark.parametrize(
    ("address", "public", "private", "loopback"),
    [
        ("8.8.8.8", True, True, True),
        ("2606:4700:4700::1111", True, True, True),
        ("10.1.2.3", False, True, False),
        ("192.168.0.1", False, True, False),
        ("100.64.0.1", False, True, False),
        ("fd00::1", False, True, False),
        ("127.0.0.1", False, True, True),
        ("::1", False, True, True),
        ("::ffff:127.0.0.1", False, True, True),
        ("::ffff:10.0.0.1", False, True, False),
        ("64:ff9b::a00:1", False, True, False),
        ("2002:a00:1::", False, True, False),
        ("169.254.169.254", False, False, False),
        ("::ffff:169.254.169.254", False, False, False),
        ("64:ff9b::a9fe:a9fe", False, False, False),
        ("fe80::1%eth0", False, False, False),
        ("0.0.0.0", False, False, False),
        ("::", False, False, False),
        ("224.0.0.1", False, False, False),
        ("168.63.129.16", False, False, False),
        ("::ffff:168.63.129.16", False, False, False),
        ("100.100.100.200", False, False, False),
        ("192.0.0.192", False, False, False),
        ("fd00:ec2::254", False, False, False),
        ("fd00:ec2::23", False, False, False),
        ("fd20:ce::254", False, False, False),
        ("fd20:ce::255", False, True, False),
        ("::169.254.169.254", False, False, False),
        ("::10.0.0.1", False, True, False),
        ("64:ff9b:1::a9fe:a9fe", False, False, False),
        ("64:ff9b:1::a00:1", False, True, False),
        ("2002:a9fe:a9fe::", False, False, False),
        ("::ffff:0:8.8.8.8", True, True, True),
        ("::ffff:0:10.0.0.1", False, True, False),
        ("::ffff:0:127.0.0.1", False, True, True),
        ("::ffff:0:169.254.169.254", False, False, False),
        ("64:ff9b:1::8.8.8.8", True, True, True),
        ("64:ff9b:1:808:8:800::", True, True, True),
        ("64:ff9b:1:a00:0:100::", False, True, False),
        ("64:ff9b:1:a9fe:a9:fe00::", False, False, False),
        ("64:ff9b:1:a9:fe:a9fe::", False, False, False),
        ("64:ff9b:1:0:a9:fea9:fe00:0", False, False, False),
        ("64:ff9b:1:7f:0:1::", False, True, True),
        ("64:ff9b:1:1:0:0:a9fe:a9fe", False, False, False),
        ("fec0::1", False, True, False),
        ("feff::1", False, True, False),
        ("4000::1", False, False, False),
        ("5f00::1", False, False, False),
        ("100::1", False, False, False),
        ("fe00::1", False, False, False),
        ("2001:db8::1", False, True, False),
        ("0.1.2.3", False, False, False),
        ("240.0.0.1", False, False, False),
        ("255.255.255.255", False, False, False),
        ("ff02::1", False, False, False),
        ("0x7f.1", False, False, False),
        ("2130706433", False, False, False),
        ("not an address", False, False, False),
    ],
)
def test_which_addresses_may_be_reached(address: str, public: bool, private: bool, loopback: bool) -> None:  # noqa: FBT001
    assert is_allowed(address, private=False, loopback=False) is public
    assert is_allowed(address, private=True, loopback=False) is private
    assert is_allowed(address, private=False, loopback=True) is loopback


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:11434/v1", True),
        ("http://127.0.0.1:9/v1", True),
        ("http://[::1]:9/v1", True),
        ("http://localhost.example.com/v1", False),
        ("http://10.0.0.1/v1", False),
        ("", False),
    ],
)
def test_which_urls_name_this_machine(url: str, expected: bool) -> None:  # noqa: FBT001
    assert is_loopback_host(url) is expected
