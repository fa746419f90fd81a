"""The durable queue. See README.md and docs/queue.md."""

from faas.store.queue.bells import Bells
from faas.store.queue.claims import Claims
from faas.store.queue.enqueuer import Enqueuer
from faas.store.queue.model import (
    Attempt,
    Depth,
    Done,
    Enqueued,
    GiveBack,
    Info,
    Input,
    Job,
    Kept,
    Limits,
    NewJob,
    Once,
    Outcome,
    Reaped,
    Refused,
    Result,
    Retry,
    Turn,
    Want,
)
from faas.store.queue.queue import MOST, Queue
from faas.store.queue.reads import Reads

__all__ = [
    "MOST",
    "Attempt",
    "Bells",
    "Claims",
    "Depth",
    "Done",
    "Enqueued",
    "Enqueuer",
    "GiveBack",
    "Info",
    "Input",
    "Job",
    "Kept",
    "Limits",
    "NewJob",
    "Once",
    "Outcome",
    "Queue",
    "Reads",
    "Reaped",
    "Refused",
    "Result",
    "Retry",
    "Turn",
    "Want",
]
