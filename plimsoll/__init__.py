"""The Python client of Plimsoll.

    from plimsoll import Client

    with Client(token="…") as client:
        decision = client.decide("credit-default", {"LIMIT_BAL": 20000, …}, key="customer-17")
        print(decision.decision, decision.reasons)

Importing it loads httpx and the standard library only.
"""

from plimsoll.client import Client, Decision
from plimsoll.errors import Error, Invalid, Refused, Unavailable, Unknown

__all__ = ["Client", "Decision", "Error", "Invalid", "Refused", "Unavailable", "Unknown"]
