"""Bearer tokens of an OAuth 2.0 authorization server (RFC 6750): signed ones checked here, others by asking it.

Needs the extra `trio-pop3[oauth]`; what it installs is imported when an authenticator is made, not before.
"""

from __future__ import annotations

from .introspection import IntrospectedTokens as IntrospectedTokens
from .signed import JwtTokens as JwtTokens
