"""The library `cryptography`, which comes with an extra: imported here alone, so that its absence is told in words."""

from polysite.errors import ConfigError

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
except ImportError as error:
    raise ConfigError("cryptography is not installed here: pip install 'polysite[nvflare]'") from error

__all__ = ["InvalidSignature", "UnsupportedAlgorithm", "ec", "hashes", "rsa", "serialization", "x509"]
