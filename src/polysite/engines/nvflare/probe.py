"""Why a hospital does not reach its server, in words: one TLS handshake, made only to hear what is wrong."""

import socket
import ssl

from polysite.kits.kit import Kit

TIMEOUT_S = 10.0
EXPIRED = 10
"""OpenSSL's number for a certificate that has ended."""
_NOT_ACCEPTED = (
    "does not accept this hospital's certificate; are both kits from the same `polysite provision`, and are the "
    "clocks of both machines right? The server's terminal says more"
)


def trouble_reaching(kit: Kit) -> str:
    """What keeps a connection from coming about.

    Returns
    -------
    str
        Without a trouble: that the server accepts this hospital but does not answer yet.
    """
    where = f"{kit.server}:{kit.port}"
    context = ssl.create_default_context(cafile=str(kit.authority))
    context.load_cert_chain(kit.certificate, kit.key)
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((kit.server, kit.port), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=kit.server) as secure,
        ):
            refused = not secure.recv(1)  # whoever does not accept a certificate hangs up without a word
    except socket.gaierror as error:
        return f"{kit.server}: no such host ({error.strerror})"
    except TimeoutError:
        return f"{where}: no answer; does a firewall lie between?"
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == EXPIRED:
            return f"{where}: its certificate has expired; the server's kit has to be renewed there"
        return (
            f"{where}: its certificate is not one of this consortium ({error.verify_message}); "
            "are both kits from the same `polysite provision`?"
        )
    except ssl.SSLError as error:
        return f"{where}: {_NOT_ACCEPTED} ({error.reason or error})"
    except OSError as error:
        return f"{where}: {error.strerror or error}; is `polysite serve` running there?"
    if refused:
        return f"{where}: {_NOT_ACCEPTED}"
    return f"{where}: is there, but does not answer yet"
