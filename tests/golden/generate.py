"""Makes the golden batches from other clients' own builders: `python -m tests.golden.generate`.

Run by hand when a client changes its format; the bytes are kept, so that the tests need no client.
Java's are made by Generate.java beside this file, which has the command in its head.
"""

from __future__ import annotations

from pathlib import Path

from tests.golden.cases import CODECS, RECORDS

FOLDER = Path(__file__).parent


def main() -> None:
    from aiokafka.record.default_records import DefaultRecordBatchBuilder as AiokafkaBuilder
    from kafka.record.default_records import DefaultRecordBatchBuilder as KafkaPythonBuilder

    for client, builder_class in (
        ("aiokafka", AiokafkaBuilder),
        ("kafka-python", KafkaPythonBuilder),
    ):
        for codec_id, codec in enumerate(CODECS):
            builder = builder_class(
                magic=2,
                compression_type=codec_id,
                is_transactional=False,
                producer_id=4000,
                producer_epoch=5,
                base_sequence=6,
                batch_size=1 << 20,
            )
            for record in RECORDS:
                builder.append(
                    record.offset, record.timestamp, record.key, record.value, record.headers
                )
            (FOLDER / f"{client}-{codec}.batch").write_bytes(bytes(builder.build()))


if __name__ == "__main__":
    main()
