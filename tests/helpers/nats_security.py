"""Create TLS certificates, accounts and users of a NATS server for a test."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

_NO_LIMIT = -1
# Python 3.13 and later demand what RFC 5280 does.
_EXTENSIONS_OF_CA = (
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=critical,keyCertSign,cRLSign",
    "subjectKeyIdentifier=hash",
)
_EXTENSIONS = (
    "basicConstraints=CA:FALSE",
    "authorityKeyIdentifier=keyid",
    "subjectAltName=IP:127.0.0.1",
)


class Certificates:
    """A certificate authority, which issues certificates for 127.0.0.1 as PEM files.

    Args:
        directory: the directory for the files. It is created.

    Attributes:
        ca: the path of the authority's own certificate.
    """

    def __init__(self, directory: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("there is no openssl, which makes the certificates")
        self._directory = directory
        directory.mkdir()
        # Without the extensions of the system's configuration.
        (directory / "req.cnf").write_text("[req]\ndistinguished_name = name\n[name]\n")
        self.ca, _ = self._made("ca", _EXTENSIONS_OF_CA)

    def issue(self, name: str) -> tuple[str, str]:
        """Return the paths of a certificate and of its key."""
        key = str(Path(self.ca).with_suffix(".key"))
        return self._made(name, _EXTENSIONS, "-CA", self.ca, "-CAkey", key)

    def _made(self, name: str, extensions: tuple[str, ...], *options: str) -> tuple[str, str]:
        cert, key = (str(self._directory / f"{name}.{end}") for end in ("pem", "key"))
        command = ["openssl", "req", "-config", str(self._directory / "req.cnf")]
        command += ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", key, "-out", cert]
        for each in extensions:
            command += ["-addext", each]
        subprocess.run([*command, *options], check=True, capture_output=True)
        return cert, key


class Operator:
    """The operator of a NATS server, with one account whose users have a JWT and a key each."""

    def __init__(self) -> None:
        self._keys = _new_keys("OPERATOR")
        self._account, self._system = _new_keys("ACCOUNT"), _new_keys("ACCOUNT")

    def configuration(self) -> str:
        """Return the part of the server's configuration that defines the accounts."""
        operator = self._signed(self._keys, _public(self._keys), type="operator")
        limits = ("subs", "conn", "leaf", "imports", "exports", "data", "payload")
        storage = ("mem_storage", "disk_storage", "streams", "consumer")
        unlimited = dict.fromkeys(limits, _NO_LIMIT) | {"wildcards": True}
        given = {
            self._account: unlimited | dict.fromkeys(storage, _NO_LIMIT),
            self._system: unlimited,  # JetStream needs this account
        }
        accounts = "\n".join(
            f"{_public(keys)}: "
            f"{self._signed(self._keys, _public(keys), type='account', limits=of_account)}"
            for keys, of_account in given.items()
        )
        return (
            f"operator: {operator}\nsystem_account: {_public(self._system)}\n"
            f"resolver: MEMORY\nresolver_preload: {{\n{accounts}\n}}\n"
        )

    def credentials(self) -> str:
        """Create a user, and return the text of a credentials file for that user."""
        user = _new_keys("USER")
        limits = dict.fromkeys(("subs", "data", "payload"), _NO_LIMIT)
        jwt = self._signed(self._account, _public(user), type="user", **limits)
        parts = (("NATS USER JWT", jwt), ("USER NKEY SEED", user.seed.decode()))
        return "\n".join(
            f"-----BEGIN {what}-----\n{text}\n------END {what}------\n" for what, text in parts
        )

    @staticmethod
    def _signed(keys: Any, subject: str, **claims: Any) -> str:
        """Return a NATS JWT with claims about a public key.

        Args:
            keys: the keys of the issuer, which sign the JWT.
            subject: the public key that the claims are about.
            claims: the part of the JWT that is specific to NATS.
        """
        head = _encoded(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
        body = {"iss": _public(keys), "sub": subject, "name": "test", "iat": 0, "jti": subject}
        body |= {"nats": claims | {"version": 2}}
        signed = f"{head}.{_encoded(json.dumps(body).encode())}"
        return f"{signed}.{_encoded(keys.sign(signed.encode()))}"


def _new_keys(kind: str) -> Any:
    nkeys = pytest.importorskip("nkeys")
    prefix = getattr(nkeys, f"PREFIX_BYTE_{kind}")
    return nkeys.from_seed(bytes(nkeys.encode_seed(os.urandom(32), prefix)))


def _public(keys: Any) -> str:
    text: str = keys.public_key.decode()
    return text


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
