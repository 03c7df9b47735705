"""Verbs that make start-up kits: the consortium's, and a hospital's request for its own."""

from pathlib import Path
from typing import Annotated

import typer


def provision(
    consortium_file: Annotated[
        Path, typer.Argument(metavar="CONSORTIUM.yaml", help="the server's address and the hospitals")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder of the kits; keep authority/ secret")],
    request: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="a hospital's request.csr; its kit gets no key"),
    ] = None,
    renew: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="make a hospital's, or the server's, certificate anew"),
    ] = None,
) -> None:
    """Make start-up kits for the server and each hospital; a hospital added later gets one, the others keep theirs."""
    from polysite.hospitals.site_file import load_consortium
    from polysite.kits.certificates import spoken
    from polysite.kits.provisioning import provision as make_kits
    from polysite.progress import console

    def tell(text: str) -> None:
        terminal.print(text, soft_wrap=True, markup=False)

    terminal, consortium = console(), load_consortium(consortium_file)
    for member, issued in make_kits(consortium, out, requests=request or [], renew=renew or [], tell=tell):
        tell(f"{member.word}: valid until {issued.ends:%Y-%m-%d}; fingerprint {spoken(issued.public_key)}")
        typer.echo(f"{member.folder}")


def request(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the hospital, as the consortium calls it")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="folder to make: the kit, in which the key stays")
    ],
) -> None:
    """Make a hospital's own private key, and the request that goes to whoever runs `polysite provision`."""
    from polysite.kits.certificates import spoken
    from polysite.kits.requests import REQUEST, make_request
    from polysite.progress import console

    digits = make_request(name, out)
    console().print(f"{name}: fingerprint {spoken(digits)}", soft_wrap=True, markup=False)
    typer.echo(f"{out / REQUEST}")
