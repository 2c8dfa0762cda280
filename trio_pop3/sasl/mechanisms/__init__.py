"""The mechanisms, a file each with the server's side and the client's, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..exchange import Mechanism
from .anonymous import anonymous_server
from .cram_md5 import cram_md5_server
from .external import external_server
from .login import login_server
from .oauth import oauthbearer_server, xoauth2_server
from .plain import plain_server
from .scram_server import scram_mechanism

# Best first: what proves most and shows least. Those that are off unless asked for come last.
MECHANISMS: Final[Mapping[str, Mechanism]] = MappingProxyType(
    {
        row.name: row
        for row in (
            scram_mechanism("sha256", plus=True),
            scram_mechanism("sha1", plus=True),
            scram_mechanism("sha256", plus=False),
            scram_mechanism("sha1", plus=False),
            Mechanism("EXTERNAL", external_server, "EXTERNAL", certificate=True),
            Mechanism("OAUTHBEARER", oauthbearer_server, "OAUTHBEARER", tls_only=True),
            Mechanism("XOAUTH2", xoauth2_server, "XOAUTH2", tls_only=True),
            Mechanism("PLAIN", plain_server, "PLAIN", cleartext=True),
            Mechanism("CRAM-MD5", cram_md5_server, "CRAM-MD5", client_first=False, default=False),
            Mechanism("LOGIN", login_server, "PLAIN", client_first=False, cleartext=True, default=False),
            Mechanism("ANONYMOUS", anonymous_server, "ANONYMOUS", default=False),
        )
    }
)
