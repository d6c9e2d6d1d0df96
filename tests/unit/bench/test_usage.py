"""CPU and memory are read as proc(5) defines them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from bench.usage import Usage, cpu_seconds, read, resident_bytes, with_children

STAT = "7 (a (b) c) S 1 7 7 0 -1 0 0 0 0 0 {user} {system} 9999 9999 20 0 1 0 1 1 1"


def test_cpu_is_user_and_system_time_without_the_childrens() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    assert cpu_seconds(STAT.format(user=3 * ticks, system=ticks // 2)) == 3.5


def test_resident_memory_is_vm_rss() -> None:
    assert resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n") == 2 << 20
    assert resident_bytes("Name:\tzombie\n") == 0


def test_the_difference_of_two_samples() -> None:
    earlier, later = Usage(cpu_s=1.5, rss_bytes=10), Usage(cpu_s=4.0, rss_bytes=30)
    assert later.since(earlier) == Usage(cpu_s=2.5, rss_bytes=30)


def test_children_started_by_any_thread_are_found_and_counted_once() -> None:
    children: list[subprocess.Popen[bytes]] = []

    def spawn() -> None:
        code = "import sys; sys.stdout.write('up'); sys.stdout.flush(); sys.stdin.read()"
        pipe = subprocess.PIPE
        child = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe)
        assert child.stdout is not None
        child.stdout.read(2)
        children.append(child)
        looked.wait()

    looked = threading.Event()
    thread = threading.Thread(target=spawn)
    thread.start()
    while not children:
        thread.join(0.01)
    pids = with_children([os.getpid(), os.getpid()])
    used = read([children[0].pid])
    looked.set()
    thread.join()
    children[0].communicate()
    assert children[0].pid in pids
    assert len(pids) == len(set(pids))
    assert used.rss_bytes > 1 << 20


def test_a_process_that_is_gone_counts_as_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert read([child.pid]) == Usage(cpu_s=0.0, rss_bytes=0)
