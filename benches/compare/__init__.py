"""kcore beside Apache Kafka and Tansu: `python -m benches.compare --help`."""
