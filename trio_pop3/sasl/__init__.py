"""SASL mechanisms without I/O, both sides of each (RFC 4422); `exchange` says how they work. Standard library only."""

from __future__ import annotations

from .exchange import Challenge as Challenge
from .exchange import ClientExchange as ClientExchange
from .exchange import FindKeys as FindKeys
from .exchange import Identity as Identity
from .exchange import Malformed as Malformed
from .exchange import Mechanism as Mechanism
from .exchange import Need as Need
from .exchange import Rejected as Rejected
from .exchange import Response as Response
from .exchange import SaslError as SaslError
from .exchange import ServerContext as ServerContext
from .exchange import ServerExchange as ServerExchange
from .exchange import ServerRejected as ServerRejected
from .exchange import Verify as Verify
from .mechanisms import MECHANISMS as MECHANISMS
from .mechanisms.anonymous import anonymous as anonymous
from .mechanisms.cram_md5 import cram_md5 as cram_md5
from .mechanisms.external import external as external
from .mechanisms.login import login as login
from .mechanisms.oauth import oauthbearer as oauthbearer
from .mechanisms.oauth import xoauth2 as xoauth2
from .mechanisms.plain import plain as plain
from .mechanisms.scram_client import scram as scram
from .mechanisms.scram_keys import derive_keys as derive_keys
from .mechanisms.scram_server import scram_mechanism as scram_mechanism
