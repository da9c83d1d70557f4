"""A writer to be killed or hindered: appends to a run for ever, and says what was acknowledged.

Run as `python writer.py RUN ACKNOWLEDGED [APPENDS]`. Acknowledged indices go into a file by pwrite, which no test
hinders; at the end, the number of refused appends goes into another beside it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from guiju.errors import EvidenceError, StorageError
from guiju.evidence import Kind, Record, Run
from guiju.storage import sha256_bytes, write_bytes


def main(run: Path, acknowledged: Path, appends: int) -> None:
    told = os.open(acknowledged, os.O_WRONLY | os.O_CREAT, 0o644)
    place = 0

    def tell(indices: list[int]) -> None:
        nonlocal place
        for index in indices:
            place += os.pwrite(told, f"{index}\n".encode(), place)

    opened, refused = None, 0
    for number in range(appends):
        try:
            if opened is None:
                opened = Run.open(run)
            if number % 3:
                tell(
                    [
                        opened.append(
                            Kind.TRAINING_EVENT, {"number": number, "text": "字" * (number % 50)}, reason="step"
                        )
                    ]
                )
            else:
                data = f"checkpoint {number}".encode() * 20
                write_bytes(run / "state.bin", data)
                outputs = {"state.bin": sha256_bytes(data)}
                record = Record(kind=Kind.CHECKPOINT, body={}, reason="save", outputs=outputs)
                tell(opened.append_many([record, Record(kind=Kind.COST, body={"n": number}, reason="meter")]))
        except (StorageError, EvidenceError):
            refused += 1
            if opened is not None:
                opened.close()
            opened = None  # as a person does: the same command again
    os.pwrite(os.open(f"{acknowledged}.refused", os.O_WRONLY | os.O_CREAT, 0o644), str(refused).encode(), 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 10**9)
