"""The Python client of Plimsoll.

    from plimsoll import Client

    with Client(token="…") as client:
        decision = client.decide("credit-default", {"LIMIT_BAL": 20000, …}, key="customer-17")
        print(decision.decision, decision.reasons)

`AsyncClient` has the same methods for asyncio; `Admin` and `AsyncAdmin` look after accounts. Importing this package
loads httpx and the standard library only.
"""

from plimsoll.admin import Admin
from plimsoll.async_admin import AsyncAdmin
from plimsoll.async_client import AsyncClient
from plimsoll.client import Client
from plimsoll.decision import Decision
from plimsoll.errors import Error, Invalid, Refused, Unavailable, Unknown

__all__ = [
    "Admin",
    "AsyncAdmin",
    "AsyncClient",
    "Client",
    "Decision",
    "Error",
    "Invalid",
    "Refused",
    "Unavailable",
    "Unknown",
]
