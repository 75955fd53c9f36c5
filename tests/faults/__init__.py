"""Faults: processes killed at random instants, full disks, read-only folders, files that change, clocks that go back.

``python -m tests.faults`` kills each kind of work twenty times; the tests of this folder do so a few times.
"""
