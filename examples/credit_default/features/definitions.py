"""The features of credit-default as Feast sees them: one entity, one view, one service a version of the inputs."""

import os
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float64, Int64
from feast.value_type import ValueType

customer = Entity(name="customer", join_keys=["ID"], value_type=ValueType.INT64, description="A credit card customer.")

statements = FileSource(
    name="statements",
    path=str(Path(os.environ["PLIMSOLL_FEAST"]) / "credit-default.parquet"),
    timestamp_field="observed_at",
    description="Six months of statements and payments, as pinned by the training run.",
)

MONTHS = range(1, 7)

behaviour = FeatureView(
    name="card_behaviour",
    entities=[customer],
    ttl=timedelta(days=45),  # statements come every month; a row that missed one is no longer used as fresh
    source=statements,
    online=True,
    schema=[
        Field(name="LIMIT_BAL", dtype=Float64, description="Credit limit, New Taiwan dollars."),
        Field(name="EDUCATION", dtype=Int64, description="1 graduate school, 2 university, 3 high school, 4 others."),
        *(Field(name=f"PAY_{month}", dtype=Int64, description="Months of delay.") for month in (0, 2, 3, 4, 5, 6)),
        *(Field(name=f"BILL_AMT{month}", dtype=Float64, description="Statement amount.") for month in MONTHS),
        *(Field(name=f"PAY_AMT{month}", dtype=Float64, description="Amount paid.") for month in MONTHS),
    ],
)

credit_default_v1 = FeatureService(name="credit_default_v1", features=[behaviour])
