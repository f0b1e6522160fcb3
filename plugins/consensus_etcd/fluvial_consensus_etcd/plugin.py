"""Offers the ordering service ``etcd``."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated

import msgspec
from fluvial import hookimpl
from fluvial.errors import ConfigError
from fluvial.offers import Registry
from fluvial.ports import Context

from fluvial_consensus_etcd.log import EtcdLog


class EtcdOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[consensus]`` with ``kind = "etcd"``."""

    endpoints: Annotated[
        tuple[str, ...], msgspec.Meta(min_length=1, max_length=16, description="where the cluster's members listen")
    ] = ("http://127.0.0.1:2379",)
    log: Annotated[
        str,
        msgspec.Meta(
            pattern="^[a-z0-9-]{1,64}$",
            description="name of the log, the same at all validators; one is for one ledger",
        ),
    ] = "ledger"
    keep: Annotated[
        int,
        msgspec.Meta(ge=256, description="entries that stay in etcd; who was away for longer asks other validators"),
    ] = 10_000
    ca_file: Annotated[str, msgspec.Meta(description="certificates that the members' ones are checked against")] = ""
    cert_file: Annotated[str, msgspec.Meta(description="the certificate that this peer presents")] = ""
    cert_key_file: Annotated[str, msgspec.Meta(description="the key of that certificate")] = ""


def build(context: Context, options: EtcdOptions) -> EtcdLog:
    """The log of one peer."""
    from fluvial_consensus_etcd.gateway import EtcdGateway  # httpx, which settings do not pay for

    gateway = EtcdGateway(options.endpoints, _tls(context.base_dir, options))
    return EtcdLog(gateway, f"/fluvial/{context.network}/{options.log}/", options.keep)


def _tls(base_dir: Path, options: EtcdOptions) -> ssl.SSLContext | None:
    """What TLS uses; None if no file is named.

    Raises:
        ConfigError: a file cannot be used.
    """
    if not (options.ca_file or options.cert_file):
        return None
    try:
        tls = ssl.create_default_context(cafile=str(base_dir / options.ca_file) if options.ca_file else None)
        if options.cert_file:
            key = str(base_dir / options.cert_key_file) if options.cert_key_file else None
            tls.load_cert_chain(str(base_dir / options.cert_file), key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificates for etcd cannot be used: {error}", hint="see ca_file, cert_file and cert_key_file"
        ) from error
    return tls


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the service."""
    registry.ordering("etcd", build, options=EtcdOptions)
