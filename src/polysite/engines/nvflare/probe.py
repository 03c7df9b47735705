"""Why a hospital does not reach its server, in words: one TLS handshake, made only to hear what is wrong."""

import socket
import ssl

from polysite.kits.kit import Kit

TIMEOUT_S = 10.0


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
            secure.recv(1)  # a server that does not accept a certificate says so here
    except socket.gaierror as error:
        return f"{kit.server}: no such host ({error.strerror})"
    except TimeoutError:
        return f"{where}: no answer; does a firewall lie between?"
    except ssl.SSLCertVerificationError as error:
        return (
            f"{where}: its certificate is not one of this consortium ({error.verify_message}); "
            "are both kits from the same `polysite provision`?"
        )
    except ssl.SSLError as error:
        return f"{where}: does not accept this hospital's certificate ({error.reason or error})"
    except OSError as error:
        return f"{where}: {error.strerror or error}; is `polysite serve` running there?"
    return f"{where}: is there, but does not let this hospital in yet; is it one of the run's sites?"
