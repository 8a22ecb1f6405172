#!/usr/bin/python3
# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claims isolated CPUs for a service, releases them, or tells of changes: a small program with the library.

The exit code is 0 when done, 1 when refused, 2 for wrong use, 3 when no daemon answers, and 130 when interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys

from charms.epa_orchestrator.v0 import epa


def main() -> int:
    """Run one command, and print its result."""
    try:
        _run(_arguments(), epa.Client())
    except epa.Unavailable as error:
        print(error, file=sys.stderr)
        return 3
    except epa.EpaError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # nobody reads the output any more, and Python must not write the rest at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Claim isolated CPUs from epa-orchestrator.")
    commands = parser.add_subparsers(dest="command", required=True)
    claim = commands.add_parser("claim", help="give the service so many CPUs in all, and print them")
    claim.add_argument("service", type=_name)
    claim.add_argument("count", type=_positive)
    claim.add_argument("--near", help="a NUMA node, a PCI address or a network interface")
    claim.add_argument("--dry-run", action="store_true", help="change nothing")
    release = commands.add_parser("release", help="release all CPUs of the service")
    release.add_argument("service", type=_name)
    commands.add_parser("list", help="print each service with its CPUs")
    watch = commands.add_parser("watch", help="print the CPUs of the service, and again whenever they change")
    watch.add_argument("service", type=_name)
    return parser.parse_args()


def _name(text: str) -> str:
    if not text.isprintable():  # bytes that are not UTF-8, too
        raise argparse.ArgumentTypeError(f"must have printable characters only, not {text!r}")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text}")
    return int(text)


def _run(arguments: argparse.Namespace, client: epa.Client) -> None:
    match arguments.command:
        case "claim":
            near = int(arguments.near) if (arguments.near or "").isdecimal() else arguments.near
            print(client.allocate(arguments.service, arguments.count, near=near, dry_run=arguments.dry_run).cpus)
        case "release":
            client.release(arguments.service)
        case "list":
            for claim in client.listing().claims:
                print(claim.service, claim.cpus)
        case _:
            _watch(client, arguments.service)


def _watch(client: epa.Client, service: str) -> None:
    with client.watch() as events:
        for event in events:
            if event.kind == "state":
                claims = [claim for listing in event.listings if (claim := listing.claim(service))]
                print(claims[0].cpus if claims else "no CPUs", flush=True)
            elif event.kind == "claim" and event.service == service:
                print(event.after.cpus if event.after else "no CPUs", flush=True)


if __name__ == "__main__":
    sys.exit(main())
